//! `multipart/form-data` as it comes: fields up to the file, then the file's bytes.
//!
//! Invariant: for any split of the input the outcome is the same; fields are bounded together, the file is
//! passed on in pieces and never gathered. Source: RFC 7578, RFC 2046 §5.1.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;

use crate::failure::{Code, Failure};

/// Most fields of a form.
const FIELDS_MAX: usize = 200;

/// The fields before the file, names in lower case.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Form {
    fields: BTreeMap<String, String>,
    /// The file's own name, without folders.
    pub(crate) file_name: String,
}

impl Form {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    pub(crate) fn fields(&self) -> impl Iterator<Item = (&String, &String)> {
        self.fields.iter()
    }

    /// A form of these fields, for tests.
    #[cfg(test)]
    pub(crate) fn of(pairs: &[(&str, &str)]) -> Self {
        let fields = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { fields, file_name: "file.bin".into() }
    }
}

fn malformed(why: &'static str) -> Failure {
    Failure::new(
        Code::MalformedPOSTRequest,
        format!("The body of your POST request is not well-formed multipart/form-data: {why}."),
    )
}

/// Reads fields until the file begins.
pub struct FormReader {
    /// `\r\n--<boundary>`.
    delimiter: Vec<u8>,
    buffer: BytesMut,
    bytes_max: usize,
    form: Form,
    stage: Stage,
    /// What is looked for next does not begin before here.
    scanned: usize,
}

/// What is looked for in the part at the start of the buffer; places are offsets into the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// The boundary before it.
    Boundary,
    /// The end of the boundary's line, which goes on at `after`.
    Line { after: usize },
    /// The blank line that ends its head.
    Head { start: usize },
    /// The boundary behind its value.
    Value { name: String, start: usize },
}

impl FormReader {
    /// A reader for a boundary that takes at most `bytes_max` bytes before the file.
    pub fn new(boundary: &str, bytes_max: usize) -> Self {
        let mut buffer = BytesMut::new();
        // The first boundary has no line before it; with one all are alike.
        buffer.extend_from_slice(b"\r\n");
        Self {
            delimiter: format!("\r\n--{boundary}").into_bytes(),
            buffer,
            bytes_max,
            form: Form::default(),
            stage: Stage::Boundary,
            scanned: 0,
        }
    }

    /// Takes a piece of the body; the form once the file begins.
    pub(crate) fn push(&mut self, frame: &[u8]) -> Result<Option<Form>, Failure> {
        self.buffer.extend_from_slice(frame);
        loop {
            match self.part()? {
                Step::Field(name, value) => {
                    if self.form.fields.len() >= FIELDS_MAX {
                        return Err(malformed("it has too many fields"));
                    }
                    if self.form.fields.insert(name.to_ascii_lowercase(), value).is_some() {
                        return Err(malformed("a field is there twice"));
                    }
                }
                Step::File(file_name) => {
                    self.form.file_name = file_name;
                    return Ok(Some(std::mem::take(&mut self.form)));
                }
                // What was read is at most one frame beyond the fields, and a field must end within them.
                Step::More if self.buffer.len() > self.bytes_max => {
                    return Err(Failure::new(
                        Code::MaxPostPreDataLengthExceeded,
                        "Your POST request fields preceding the upload file were too large.",
                    )
                    .element("MaxPostPreDataLengthBytes", self.bytes_max.to_string()));
                }
                Step::More => return Ok(None),
            }
        }
    }

    /// As `push`, for fuzzing: whether the file began; `None` where the form is malformed.
    pub fn try_push(&mut self, frame: &[u8]) -> Option<bool> {
        self.push(frame).ok().map(|form| form.is_some())
    }

    /// The rest of the body: the file.
    pub fn into_file(self) -> FileDecoder {
        FileDecoder { delimiter: self.delimiter, buffer: self.buffer, ended: false }
    }

    /// Goes on with the part at the start of the buffer. What was looked at once is not looked at again,
    /// however small the pieces in which it comes.
    fn part(&mut self) -> Result<Step, Failure> {
        loop {
            match &self.stage {
                Stage::Boundary => {
                    let Some(at) = find(&self.buffer, &self.delimiter, &mut self.scanned) else {
                        return Ok(Step::More);
                    };
                    self.stage = Stage::Line { after: at + self.delimiter.len() };
                }
                Stage::Line { after } => {
                    let after = *after;
                    self.scanned = self.scanned.max(after);
                    let Some(line) = self.buffer.get(after..after + 2) else { return Ok(Step::More) };
                    if line == b"--" {
                        return Err(Failure::argument(
                            "file",
                            "POST requires exactly one file upload per request.",
                        ));
                    }
                    let Some(end) = find(&self.buffer, b"\r\n", &mut self.scanned) else {
                        return Ok(Step::More);
                    };
                    if !self.buffer[after..end].iter().all(|b| matches!(b, b' ' | b'\t')) {
                        return Err(malformed("a boundary is followed by more than white space"));
                    }
                    // That line end is the first half of the blank line where a part has no head.
                    self.stage = Stage::Head { start: end };
                }
                Stage::Head { start } => {
                    let start = *start;
                    let Some(end) = find(&self.buffer, b"\r\n\r\n", &mut self.scanned) else {
                        return Ok(Step::More);
                    };
                    let (name, file_name) = disposition(&self.buffer[start..end])?;
                    let value = end + 4;
                    if name.eq_ignore_ascii_case("file") {
                        self.buffer.advance(value);
                        return Ok(Step::File(file_name));
                    }
                    self.scanned = value;
                    self.stage = Stage::Value { name, start: value };
                }
                Stage::Value { name, start } => {
                    let Some(end) = find(&self.buffer, &self.delimiter, &mut self.scanned) else {
                        return Ok(Step::More);
                    };
                    let value = std::str::from_utf8(&self.buffer[*start..end])
                        .map_err(|_| malformed("a field is not UTF-8"))?
                        .to_owned();
                    let field = Step::Field(name.clone(), value);
                    self.buffer.advance(end);
                    (self.stage, self.scanned) = (Stage::Boundary, 0);
                    // Each field counts against the bound together with those before it.
                    self.bytes_max = self.bytes_max.checked_sub(end).ok_or_else(|| {
                        Failure::new(
                            Code::MaxPostPreDataLengthExceeded,
                            "Your POST request fields preceding the upload file were too large.",
                        )
                    })?;
                    return Ok(field);
                }
            }
        }
    }
}

/// Where `wanted` begins in `buffer`, not before `scanned`; `scanned` moves over what it is not in.
fn find(buffer: &[u8], wanted: &[u8], scanned: &mut usize) -> Option<usize> {
    let found = buffer.get(*scanned..).and_then(|rest| memmem::find(rest, wanted)).map(|at| *scanned + at);
    // The end of the buffer may be the beginning of it.
    *scanned = found.unwrap_or_else(|| (*scanned).max((buffer.len() + 1).saturating_sub(wanted.len())));
    found
}

enum Step {
    More,
    Field(String, String),
    File(String),
}

/// `name` and `filename` of a part's `Content-Disposition`.
fn disposition(head: &[u8]) -> Result<(String, String), Failure> {
    let head = std::str::from_utf8(head).map_err(|_| malformed("a part's head is not UTF-8"))?;
    for line in head.split("\r\n") {
        let Some((header, value)) = line.split_once(':') else { continue };
        if !header.trim().eq_ignore_ascii_case("content-disposition") {
            continue;
        }
        let name = parameter(value, "name").ok_or_else(|| malformed("a part has no name"))?;
        let file_name = parameter(value, "filename").unwrap_or_default();
        let base = file_name.rsplit(['/', '\\']).next().unwrap_or("").to_owned();
        return Ok((name, base));
    }
    Err(malformed("a part has no Content-Disposition"))
}

/// A parameter of a header, quoted or not; a backslash keeps the next quote.
fn parameter(value: &str, wanted: &str) -> Option<String> {
    let mut rest = value;
    while let Some((_, after)) = rest.split_once(';') {
        let after = after.trim_start();
        let (name, tail) = after.split_once('=')?;
        let (text, tail) = match tail.strip_prefix('"') {
            Some(quoted) => {
                let mut text = String::new();
                let mut characters = quoted.char_indices();
                let mut end = quoted.len();
                while let Some((at, character)) = characters.next() {
                    match character {
                        '"' => {
                            end = at + 1;
                            break;
                        }
                        '\\' if quoted[at + 1..].starts_with('"') => {
                            text.push('"');
                            characters.next();
                        }
                        other => text.push(other),
                    }
                }
                (text, &quoted[end..])
            }
            None => {
                let end = tail.find(';').unwrap_or(tail.len());
                (tail[..end].trim().to_owned(), &tail[end..])
            }
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(text);
        }
        rest = tail;
    }
    None
}

/// The file's bytes up to the boundary after it.
pub struct FileDecoder {
    delimiter: Vec<u8>,
    buffer: BytesMut,
    ended: bool,
}

impl FileDecoder {
    /// Takes a piece of the body; after the end it is dropped.
    pub fn push(&mut self, frame: Bytes) {
        if !self.ended {
            self.buffer.extend_from_slice(&frame);
        }
    }

    /// The bytes that are surely the file's; `None` where more must come first.
    pub fn next_piece(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        if let Some(at) = memmem::find(&self.buffer, &self.delimiter) {
            self.ended = true;
            let data = self.buffer.split_to(at).freeze();
            self.buffer.clear();
            return Some(data).filter(|data| !data.is_empty());
        }
        // The end may be the beginning of the delimiter.
        let sure = self.buffer.len().saturating_sub(self.delimiter.len() - 1);
        (sure > 0).then(|| self.buffer.split_to(sure).freeze())
    }

    /// Whether the boundary after the file was seen.
    pub fn ended(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BODY: &[u8] = b"--XY\r\nContent-Disposition: form-data; name=\"Key\"\r\n\r\na/${filename}\r\n--XY \r\nContent-Disposition: form-data; name=policy\r\n\r\n\r\n--XY\r\ncontent-disposition: form-data; name=\"file\"; filename=\"C:\\dir\\my \\\"x\\\".txt\"\r\nContent-Type: text/plain\r\n\r\nline\r\n--X is no boundary\r\n\r\n--XY\r\nContent-Disposition: form-data; name=\"submit\"\r\n\r\nignored\r\n--XY--\r\n";

    /// Feeds pieces; the form and the file, or why not.
    fn read(pieces: &[&[u8]]) -> Result<(Form, Vec<u8>, bool), Failure> {
        let mut reader = FormReader::new("XY", 4096);
        let mut pieces = pieces.iter();
        let form = loop {
            let piece = pieces.next().ok_or_else(|| malformed("it ends"))?;
            if let Some(form) = reader.push(piece)? {
                break form;
            }
        };
        let mut decoder = reader.into_file();
        let mut file = Vec::new();
        let mut take = |decoder: &mut FileDecoder| {
            while let Some(data) = decoder.next_piece() {
                file.extend_from_slice(&data);
            }
        };
        take(&mut decoder);
        for piece in pieces {
            decoder.push(Bytes::copy_from_slice(piece));
            take(&mut decoder);
        }
        let ended = decoder.ended();
        Ok((form, file, ended))
    }

    #[test]
    fn fields_and_file_are_read() {
        let (form, file, ended) = read(&[BODY]).expect("form");
        assert_eq!(form.get("key"), Some("a/${filename}"));
        assert_eq!(form.get("policy"), Some(""));
        assert_eq!(form.file_name, "my \"x\".txt");
        assert_eq!(file, b"line\r\n--X is no boundary\r\n");
        assert!(ended && !form.has("submit"));
    }

    #[test]
    fn a_file_without_its_end_has_not_ended() {
        let cut = &BODY[..BODY.len() - 90];
        assert!(!read(&[cut]).expect("form").2);
    }

    #[test]
    fn forms_are_bounded_and_need_a_file() {
        let no_file = b"--XY\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n--XY--\r\n";
        assert_eq!(read(&[no_file]).expect_err("no file").code(), "InvalidArgument");
        let twice = b"--XY\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n--XY\r\nContent-Disposition: form-data; name=\"A\"\r\n\r\nb\r\n--XY--\r\n";
        assert_eq!(read(&[twice]).expect_err("twice").code(), "MalformedPOSTRequest");
        let big = format!("--XY\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n{}", "x".repeat(5000));
        assert_eq!(read(&[big.as_bytes()]).expect_err("big").code(), "MaxPostPreDataLengthExceeded");
        let many: String = (0..40)
            .map(|i| {
                format!(
                    "--XY\r\nContent-Disposition: form-data; name=\"a{i}\"\r\n\r\n{}\r\n",
                    "x".repeat(200)
                )
            })
            .collect();
        let pieces: Vec<&[u8]> = many.as_bytes().chunks(100).collect();
        assert_eq!(read(&pieces).expect_err("many").code(), "MaxPostPreDataLengthExceeded");
        assert_eq!(read(&[b"--XYZ\r\n\r\n"]).expect_err("not the boundary").code(), "MalformedPOSTRequest");
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(cuts in proptest::collection::vec(0..BODY.len(), 0..12)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&BODY[from..cut]);
                from = cut;
            }
            pieces.push(&BODY[from..]);
            prop_assert_eq!(read(&pieces).expect("form"), read(&[BODY]).expect("form"));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), step in 1_usize..64) {
            let mut body = b"--XY\r\nContent-Disposition: form-data; name=\"".to_vec();
            body.extend_from_slice(&bytes);
            let pieces: Vec<&[u8]> = body.chunks(step).collect();
            let _ = read(&pieces);
        }
    }
}
