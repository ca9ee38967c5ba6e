package eightbit

import (
	"errors"
	"io"
	"mime"
	"slices"
	"strings"

	"mailout/internal/header"
)

// Goal: convert content of any size in little memory, touching nothing that
// need not be touched.
//
// Method: two passes. The first walks the structure line by line and notes
// edits: a range of octets and what becomes of it. The second copies, with the
// edits made. What lies between edits is copied as it is.
//
// Rejected: one pass (the header of a part stands before the body that decides
// its encoding, so bodies would have to be kept), and a tree of parts in
// memory (a message of 50 MB would need 50 MB).
//
// Limits: maxNesting, maxParts, maxHeader. A message beyond any of them counts
// as broken and stays as it is.

// The bounds of a message that is converted.
const (
	maxNesting = 20      // multiparts inside one another
	maxParts   = 10_000  // parts in all
	maxHeader  = 2 << 20 // octets in the header of the message or a part
)

// editKind is what becomes of a range.
type editKind uint8

const (
	editReplace editKind = iota // write text in its place
	editQuoted                  // quoted-printable
	editBase64
	editMask // octets above 127 become "?": around the parts of a multipart
)

// edit is one change. Edits are in order and do not overlap.
type edit struct {
	from, to int64
	kind     editKind
	text     []byte
}

// errBroken says that the structure is broken, or beyond the limits.
var errBroken = errors.New("broken MIME structure")

type planner struct {
	in    *lines
	edits []edit
	parts int
	// boundaries are those of the open multiparts, the outermost first, each
	// with its "--".
	boundaries []string
}

// stop is what ended a part.
type stop struct {
	depth int   // index of the boundary that came; -1 at the end of the content
	close bool  // it was the closing one
	at    int64 // where the part's content ends
}

// plan finds the edits that a message needs; none when nothing is to be done
// or the structure is broken.
func plan(r io.ReaderAt, size int64) ([]edit, error) {
	p := &planner{in: newLines(r, size)}
	_, _, err := p.entity(true, false)
	if errors.Is(err, errBroken) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return p.edits, nil
}

// entity plans the message, or one part, with its header. raw reports that
// octets above 127 stay in it. In a multipart/digest a part without a type is
// a message (RFC 2046 5.1.5).
func (p *planner) entity(top, digest bool) (raw bool, end stop, err error) {
	if p.parts++; p.parts > maxParts {
		return false, stop{}, errBroken
	}
	e, err := p.readHeader(top)
	if err != nil {
		return false, stop{}, err
	}
	if e.ended {
		return false, e.end, nil
	}
	if _, typed := e.fields.Get("Content-Type"); digest && !typed {
		e.opaque = true
	}
	switch {
	case e.opaque:
		f, err := p.body()
		return f.eightBit, f.end, err
	case e.boundary != "":
		return p.multipart(e)
	}
	return p.leaf(e)
}

// entity is the header of a message or part as far as conversion needs it.
type entity struct {
	top      bool
	start    int64 // of the header
	fields   *header.Header
	kind     string // media type in lower case
	boundary string
	encoding string // transfer encoding in lower case
	opaque   bool   // not to be altered
	ended    bool   // the part has no body: a boundary came in its header
	end      stop
}

// readHeader reads the header of the message or a part and leaves the reader
// at the first line of the body.
func (p *planner) readHeader(top bool) (*entity, error) {
	e := &entity{top: top, start: p.in.at, fields: &header.Header{}}
	e.fields.Reset(header.Limits{Size: maxHeader, Fields: 2 * header.MaxFields})
	for e.fields.End() == header.EndOpen {
		from := p.in.at
		line, err := p.in.next()
		if errors.Is(err, io.EOF) {
			e.ended, e.end = true, stop{-1, false, from}
			break
		}
		if err != nil {
			return nil, err
		}
		if depth, closing := p.boundary(line.first); depth >= 0 {
			e.ended, e.end = true, stop{depth, closing, from}
			break
		}
		if line.cut { // a header line beyond what is kept of a line
			return nil, errBroken
		}
		if _, err := e.fields.Feed(line.first); err != nil {
			return nil, errBroken
		}
	}
	if e.ended {
		_ = e.fields.Finish()
	}
	if e.fields.End() == header.EndMalformed {
		return nil, errBroken
	}
	return e, e.judge()
}

// judge reads the fields that decide.
func (e *entity) judge() error {
	e.kind, e.encoding = "text/plain", "7bit"
	var err error
	var types, encodings int
	for f := range e.fields.All() {
		switch f.Known() {
		case header.ContentType:
			types++
			err = e.contentType(f.Text())
		case header.ContentTransferEncoding:
			encodings++
			word, _, _ := strings.Cut(f.Text(), " ") // a comment may follow
			e.encoding = strings.ToLower(strings.TrimRight(word, ";"))
		}
	}
	if err != nil || types > 1 || encodings > 1 {
		return errBroken
	}
	if e.boundary != "" && !identity(e.encoding) { // RFC 2045 6.4 forbids it
		return errBroken
	}
	return nil
}

func (e *entity) contentType(value string) error {
	kind, params, err := mime.ParseMediaType(value)
	if err != nil {
		return err
	}
	e.kind = kind
	switch {
	case kind == "multipart/signed", kind == "multipart/encrypted", strings.HasPrefix(kind, "message/"),
		strings.HasPrefix(kind, "application/pkcs7-"), strings.HasPrefix(kind, "application/x-pkcs7-"), kind == "application/pgp-encrypted":
		e.opaque = true
	case strings.HasPrefix(kind, "multipart/"):
		e.boundary = params["boundary"]
		if e.boundary == "" || len(e.boundary) > 70 || strings.HasSuffix(e.boundary, " ") { // RFC 2046 5.1.1
			return errBroken
		}
	}
	return nil
}

// identity reports whether a transfer encoding leaves the octets as they are.
func identity(encoding string) bool {
	return encoding == "7bit" || encoding == "8bit" || encoding == "binary"
}

// multipart plans a multipart: preamble, parts, epilogue.
func (p *planner) multipart(e *entity) (raw bool, end stop, err error) {
	if len(p.boundaries) >= maxNesting {
		return false, stop{}, errBroken
	}
	own := len(p.boundaries)
	p.boundaries = append(p.boundaries, "--"+e.boundary)
	place := len(p.edits) // an edit of this header stands before those of the parts
	f, err := p.around()
	for err == nil && f.depth == own && !f.close {
		var partRaw bool
		partRaw, f, err = p.entity(false, e.kind == "multipart/digest")
		raw = raw || partRaw
	}
	if err != nil {
		return false, stop{}, err
	}
	if f.depth != own { // an outer boundary, or the end, before its own close
		return false, stop{}, errBroken
	}
	p.boundaries = p.boundaries[:own]
	if !raw && e.encoding != "7bit" && len(p.edits) > place {
		p.edits = slices.Insert(p.edits, place, e.relabel("7bit", nil))
	}
	f, err = p.around()
	return raw, f, err
}

// around plans a preamble or an epilogue: text that no reader shows.
func (p *planner) around() (stop, error) {
	from := p.in.at
	f, err := p.body()
	if err == nil && f.eightBit {
		p.edits = append(p.edits, edit{from: from, to: f.end.at, kind: editMask})
	}
	return f.end, err
}

// leaf plans a part that is not made of parts.
func (p *planner) leaf(e *entity) (raw bool, end stop, err error) {
	from := p.in.at
	f, err := p.body()
	if err != nil {
		return false, stop{}, err
	}
	if !f.eightBit && !f.long && !f.bare {
		if e.encoding == "binary" { // a word that only RFC 3030 hosts may be given
			p.edits = append(p.edits, e.relabel("7bit", nil))
		}
		return false, f.end, nil
	}
	if !identity(e.encoding) { // encoded already, and badly: not ours to mend
		return f.eightBit, f.end, nil
	}
	encoding, kind := "quoted-printable", editQuoted
	if !strings.HasPrefix(e.kind, "text/") || f.bare {
		encoding, kind = "base64", editBase64
	}
	head := e.relabel(encoding, e.missing(f.eightBit))
	p.edits = append(p.edits, head, edit{from: from, to: f.end.at, kind: kind})
	return false, f.end, nil
}

// missing are the fields that a message without MIME needs to say how it is
// encoded. Nobody knows the charset of octets above 127 (RFC 1428 3).
func (e *entity) missing(eightBit bool) []byte {
	if !e.top {
		return nil
	}
	var out []byte
	if _, ok := e.fields.Get("MIME-Version"); !ok {
		out = append(out, "MIME-Version: 1.0\r\n"...)
	}
	if _, ok := e.fields.Get("Content-Type"); !ok {
		charset := "us-ascii"
		if eightBit {
			charset = "unknown-8bit"
		}
		out = append(out, "Content-Type: text/plain; charset="+charset+"\r\n"...)
	}
	return out
}

// relabel is the edit that puts another transfer encoding into a header, where
// it stood or else at its end, and other fields beside it.
func (e *entity) relabel(encoding string, more []byte) edit {
	text := append(more, "Content-Transfer-Encoding: "+encoding+"\r\n"...)
	at := e.start
	for f := range e.fields.All() {
		if f.Known() == header.ContentTransferEncoding {
			return edit{from: at, to: at + int64(len(f.Raw())), text: text}
		}
		at += int64(len(f.Raw()))
	}
	return edit{from: at, to: at, text: text}
}

// found is what a body was seen to hold.
type found struct {
	end      stop
	eightBit bool
	long     bool // a line over 998 octets
	bare     bool // a CR or LF that is no line end
}

// body reads lines up to a boundary of an open multipart. The line end before
// a boundary belongs to the boundary (RFC 2046 5.1.1).
func (p *planner) body() (found, error) {
	var f found
	end := p.in.at
	for {
		from := p.in.at
		line, err := p.in.next()
		if errors.Is(err, io.EOF) {
			f.end = stop{-1, false, from}
			return f, nil
		}
		if err != nil {
			return f, err
		}
		if depth, closing := p.boundary(line.first); depth >= 0 {
			f.end = stop{depth, closing, end}
			return f, nil
		}
		f.eightBit = f.eightBit || line.eightBit
		f.bare = f.bare || line.bare
		f.long = f.long || line.size > header.MaxLine
		end = from + line.size
	}
}

// boundary tells whether a line is the boundary of an open multipart, and of
// which: the innermost that fits.
func (p *planner) boundary(line []byte) (depth int, closing bool) {
	if len(line) < 3 || line[0] != '-' || line[1] != '-' {
		return -1, false
	}
	text := strings.TrimRight(string(line), " \t\r\n")
	for i := len(p.boundaries) - 1; i >= 0; i-- {
		rest, ok := strings.CutPrefix(text, p.boundaries[i])
		if ok && rest == "" {
			return i, false
		}
		if ok && rest == "--" {
			return i, true
		}
	}
	return -1, false
}
