//! HTTP/1.1 by hand: bytes out, one answer in.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// The text of the first element of a name.
    pub(crate) fn element(&self, name: &str) -> Option<&str> {
        let (_, rest) = self.text().split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
    }

    /// Checks an error: its status, code, and that ids go with it.
    #[track_caller]
    pub(crate) fn fails(&self, status: u16, code: &str) {
        assert_eq!(
            (self.status, self.element("Code")),
            (status, Some(code)),
            "{self:?} {}",
            String::from_utf8_lossy(&self.body)
        );
        assert_eq!(self.element("RequestId"), self.header("x-amz-request-id"));
        assert!(self.header("x-amz-id-2").is_some());
    }
}

/// Sends bytes and reads the answer to its end.
pub(crate) async fn exchange(address: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    // The answer may come before all was sent.
    let _sent_or_refused = stream.write_all(request).await;
    read(&mut stream).await
}

/// Reads one answer.
pub(crate) async fn read(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
        let count = stream.read_buf(&mut bytes).await.expect("readable");
        assert!(count > 0, "the connection ended before an answer: {}", String::from_utf8_lossy(&bytes));
    }
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("just seen");
    let head = String::from_utf8(bytes[..end].to_vec()).expect("a head is text");
    let mut body = bytes.split_off(end + 4);
    let mut lines = head.split("\r\n");
    let status =
        lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status").parse().expect("a number");
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(": ").expect("a header"))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let answer = Answer { status, headers, body: Vec::new() };
    if status == 100 || status == 204 || status == 304 {
        return answer;
    }
    if answer.header("transfer-encoding").is_some() {
        stream.read_to_end(&mut body).await.expect("readable");
        return Answer { body, ..answer };
    }
    let length: usize = answer.header("content-length").map_or(0, |length| length.parse().expect("a number"));
    // An answer to HEAD ends here; the peer then closes.
    while body.len() < length {
        if stream.read_buf(&mut body).await.expect("readable") == 0 {
            break;
        }
    }
    Answer { body, ..answer }
}
