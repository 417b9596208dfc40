package main

// One connection and the requests on it: signing, sending, reading and checking one answer.
//
// Invariant: an answer is read to its last byte before the next request is sent, and a connection on
// which anything went wrong is closed and not used again.

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc64"
	"io"
	"math/rand"
	"net"
	"strconv"
	"strings"
	"time"
)

type target struct {
	address, access, secret, region, bucket string
}

// body is an object's bytes with all that a request needs of them, computed once.
type body struct {
	plain   []byte
	wire    []byte // what is sent: plain, or aws-chunked with its trailer
	payload string // x-amz-content-sha256
	trailer bool
}

const (
	unsigned      = "UNSIGNED-PAYLOAD"
	streaming     = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
	trailerName   = "x-amz-checksum-crc64nvme"
	emptySha256   = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	awsChunkBytes = 1 << 20
)

var crc64nvme = crc64.MakeTable(0x9a6c9329ac4bc9b5)

// makeBodies makes different objects: 64 small ones or 4 large ones, the same in every run.
func makeBodies(size int, mode, op string) []body {
	return bodiesOf(nil, size, mode, op)
}

// bodiesOf makes objects that all have the given content, or different ones when there is none.
func bodiesOf(content []byte, size int, mode, op string) []body {
	count := 64
	if size > 1<<20 {
		count = 4
	}
	bodies := make([]body, count)
	for i := range bodies {
		plain := make([]byte, size)
		rand.New(rand.NewSource(int64(i) + int64(size)*1000)).Read(plain)
		if content != nil {
			plain = content
		}
		b := &bodies[i]
		b.plain, b.wire, b.payload = plain, plain, unsigned
		if op != "put" {
			continue
		}
		switch mode {
		case "signed":
			sum := sha256.Sum256(plain)
			b.payload = hex.EncodeToString(sum[:])
		case "trailer":
			var sum [8]byte
			binary.BigEndian.PutUint64(sum[:], crc64.Checksum(plain, crc64nvme))
			var wire bytes.Buffer
			for rest := plain; len(rest) > 0; {
				n := min(len(rest), awsChunkBytes)
				fmt.Fprintf(&wire, "%x\r\n", n)
				wire.Write(rest[:n])
				wire.WriteString("\r\n")
				rest = rest[n:]
			}
			fmt.Fprintf(&wire, "0\r\n%s:%s\r\n\r\n", trailerName, base64.StdEncoding.EncodeToString(sum[:]))
			b.wire, b.payload, b.trailer = wire.Bytes(), streaming, true
		}
	}
	return bodies
}

type connection struct {
	target
	socket     net.Conn
	reader     *bufio.Reader
	day        string
	signingKey []byte
	scratch    []byte
}

func newConnection(t target) *connection {
	return &connection{target: t, scratch: make([]byte, 1<<20)}
}

func (c *connection) close() {
	if c.socket != nil {
		c.socket.Close()
		c.socket = nil
	}
}

func (c *connection) open() error {
	if c.socket != nil {
		return nil
	}
	socket, err := net.DialTimeout("tcp", c.address, 10*time.Second)
	if err != nil {
		return err
	}
	c.socket = socket
	c.reader = bufio.NewReaderSize(socket, 64<<10)
	return nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	io.WriteString(h, text)
	return h.Sum(nil)
}

// escape percent-encodes as SigV4's canonical form wants a query value.
func escape(text string) string {
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		b := text[i]
		if b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || strings.IndexByte("-_.~", b) >= 0 {
			out.WriteByte(b)
		} else {
			fmt.Fprintf(&out, "%%%02X", b)
		}
	}
	return out.String()
}

func (c *connection) signature(stamp, canonical string) (string, string) {
	if day := stamp[:8]; day != c.day {
		c.day = day
		c.signingKey = mac(mac(mac(mac([]byte("AWS4"+c.secret), day), c.region), "s3"), "aws4_request")
	}
	scope := c.day + "/" + c.region + "/s3/aws4_request"
	sum := sha256.Sum256([]byte(canonical))
	return hex.EncodeToString(mac(c.signingKey, "AWS4-HMAC-SHA256\n"+stamp+"\n"+scope+"\n"+hex.EncodeToString(sum[:]))), scope
}

// head builds the signed request head. The query must be sorted and escaped.
func (c *connection) head(method, key, query string, b *body, mode string) []byte {
	path := key
	if c.bucket != "" {
		path = "/" + c.bucket + key
	}
	length := 0
	payload := emptySha256
	if b != nil {
		length, payload = len(b.wire), b.payload
	}
	stamp := time.Now().UTC().Format("20060102T150405Z")
	var out strings.Builder
	line := func(name, value string) { out.WriteString(name + ": " + value + "\r\n") }
	switch {
	case mode == "anonymous" || c.access == "":
		out.WriteString(method + " " + path)
		if query != "" {
			out.WriteString("?" + query)
		}
		out.WriteString(" HTTP/1.1\r\n")
		line("host", c.address)
	case mode == "presigned":
		scope := stamp[:8] + "/" + c.region + "/s3/aws4_request"
		// Capital X sorts before every lower-case name, so the signature's own fields come first.
		full := "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" + escape(c.access+"/"+scope) + "&X-Amz-Date=" + stamp +
			"&X-Amz-Expires=3600&X-Amz-SignedHeaders=host"
		if query != "" {
			full += "&" + query
		}
		signature, _ := c.signature(stamp, method+"\n"+path+"\n"+full+"\nhost:"+c.address+"\n\nhost\n"+unsigned)
		out.WriteString(method + " " + path + "?" + full + "&X-Amz-Signature=" + signature + " HTTP/1.1\r\n")
		line("host", c.address)
	default:
		names := "host;x-amz-content-sha256;x-amz-date"
		headers := "host:" + c.address + "\nx-amz-content-sha256:" + payload + "\nx-amz-date:" + stamp + "\n"
		decoded := ""
		if b != nil && b.trailer {
			decoded = strconv.Itoa(len(b.plain))
			names += ";x-amz-decoded-content-length;x-amz-trailer"
			headers += "x-amz-decoded-content-length:" + decoded + "\nx-amz-trailer:" + trailerName + "\n"
		}
		signature, scope := c.signature(stamp, method+"\n"+path+"\n"+query+"\n"+headers+"\n"+names+"\n"+payload)
		out.WriteString(method + " " + path)
		if query != "" {
			out.WriteString("?" + query)
		}
		out.WriteString(" HTTP/1.1\r\n")
		line("host", c.address)
		line("x-amz-content-sha256", payload)
		line("x-amz-date", stamp)
		if decoded != "" {
			line("x-amz-decoded-content-length", decoded)
			line("x-amz-trailer", trailerName)
			line("content-encoding", "aws-chunked")
		}
		line("authorization", "AWS4-HMAC-SHA256 Credential="+c.access+"/"+scope+", SignedHeaders="+names+", Signature="+signature)
	}
	if b != nil {
		line("content-length", strconv.Itoa(length))
	}
	out.WriteString("\r\n")
	return []byte(out.String())
}

// expect sends one request and checks status, length and, for small objects, every byte.
func (c *connection) expect(method, key, query string, b *body, mode string, status int, wanted *body) error {
	if err := c.send(method, key, query, b, mode); err != nil {
		return err
	}
	got, length, chunked, keep, err := c.answer()
	if err != nil {
		return err
	}
	if got != status {
		text, _ := io.ReadAll(io.LimitReader(c.reader, int64(max(length, 0))))
		return fmt.Errorf("%s %s: %d %.300s", method, key, got, text)
	}
	if wanted != nil && c.bucket != "" {
		if length != len(wanted.plain) {
			return fmt.Errorf("%s: %d bytes, not %d", key, length, len(wanted.plain))
		}
		if err := c.compare(wanted.plain); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	} else if status != 204 {
		if _, err := c.rest(length, chunked); err != nil {
			return err
		}
	}
	if !keep {
		c.close()
	}
	return nil
}

// list sends one list request and checks that it has 1,000 keys.
func (c *connection) list(query, mode string) error {
	if err := c.send("GET", "/", query, nil, mode); err != nil {
		return err
	}
	status, length, chunked, keep, err := c.answer()
	if err != nil {
		return err
	}
	text, err := c.rest(length, chunked)
	if err != nil {
		return err
	}
	if keys := bytes.Count(text, []byte("<Key>")); status != 200 || keys != 1000 {
		return fmt.Errorf("list: %d with %d keys: %.200s", status, keys, text)
	}
	if !keep {
		c.close()
	}
	return nil
}

func (c *connection) send(method, key, query string, b *body, mode string) error {
	if err := c.open(); err != nil {
		return err
	}
	buffers := net.Buffers{c.head(method, key, query, b, mode)}
	if b != nil {
		buffers = append(buffers, b.wire)
	}
	_, err := buffers.WriteTo(c.socket)
	return err
}

// answer reads the head of one answer. length is -1 when the body is chunked.
func (c *connection) answer() (status, length int, chunked, keep bool, err error) {
	keep = true
	for {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return 0, 0, false, false, err
		}
		if len(line) < 12 {
			return 0, 0, false, false, fmt.Errorf("not HTTP: %q", line)
		}
		status, err = strconv.Atoi(string(line[9:12]))
		if err != nil {
			return 0, 0, false, false, err
		}
		for {
			line, err := c.reader.ReadSlice('\n')
			if err != nil {
				return 0, 0, false, false, err
			}
			line = bytes.TrimRight(line, "\r\n")
			if len(line) == 0 {
				break
			}
			name, value, _ := bytes.Cut(line, []byte(":"))
			value = bytes.TrimSpace(value)
			switch {
			case len(name) == 14 && bytes.EqualFold(name, []byte("content-length")):
				if length, err = strconv.Atoi(string(value)); err != nil {
					return 0, 0, false, false, err
				}
			case len(name) == 17 && bytes.EqualFold(name, []byte("transfer-encoding")):
				chunked, length = true, -1
			case len(name) == 10 && bytes.EqualFold(name, []byte("connection")):
				keep = !bytes.EqualFold(value, []byte("close"))
			}
		}
		if status != 100 {
			return status, length, chunked, keep, nil
		}
	}
}

// rest reads the body.
func (c *connection) rest(length int, chunked bool) ([]byte, error) {
	if !chunked {
		if length > cap(c.scratch) {
			c.scratch = make([]byte, length)
		}
		_, err := io.ReadFull(c.reader, c.scratch[:length])
		return c.scratch[:length], err
	}
	var out []byte
	for {
		line, err := c.reader.ReadString('\n')
		if err != nil {
			return nil, err
		}
		size, err := strconv.ParseInt(strings.TrimSpace(line), 16, 32)
		if err != nil {
			return nil, err
		}
		part := make([]byte, size+2)
		if _, err := io.ReadFull(c.reader, part); err != nil {
			return nil, err
		}
		if size == 0 {
			return out, nil
		}
		out = append(out, part[:size]...)
	}
}

// compare reads a body and compares it: all of a small one, the first bytes of each read of a large one,
// because a full comparison of 64 MiB would make the loader's core the limit.
func (c *connection) compare(wanted []byte) error {
	for done := 0; done < len(wanted); {
		n := min(len(wanted)-done, cap(c.scratch))
		n, err := c.reader.Read(c.scratch[:n])
		if err != nil {
			return err
		}
		checked := n
		if len(wanted) > 1<<20 {
			checked = min(n, 64)
		}
		if !bytes.Equal(c.scratch[:checked], wanted[done:done+checked]) {
			return fmt.Errorf("other bytes at %d", done)
		}
		done += n
	}
	return nil
}
