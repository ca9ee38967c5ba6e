package compose

import (
	"bytes"
	"fmt"
	"mime"
	"path"
	"regexp"
	"strings"
	"unicode/utf8"

	"mailout/internal/header"
)

// file is an attachment that may be written.
type file struct {
	kind        string // the value of Content-Type, with the name
	disposition string // the value of Content-Disposition, with the name
	contentID   string // without <>; may be empty
	related     bool   // belongs to the HTML
	asIs        bool   // message/*: must not be encoded (RFC 2046 5.2)
	content     []byte
}

func (c *checked) attachments(m *Message) error {
	if len(m.Attachments) > MaxAttachments {
		return refuse("attachments", "there are %d files; at most %d are taken", len(m.Attachments), MaxAttachments)
	}
	ids := map[string]bool{}
	for i := range m.Attachments {
		at := fmt.Sprintf("attachments[%d]", i)
		f, err := checkFile(at, &m.Attachments[i], m.HTML != "")
		if err != nil {
			return err
		}
		if f.contentID != "" && ids[f.contentID] {
			return refuse(at+".cid", "another file has the content ID %s", f.contentID)
		}
		ids[f.contentID] = true
		c.files = append(c.files, *f)
	}
	return nil
}

func checkFile(at string, a *Attachment, html bool) (*file, error) {
	if err := checkFileName(at+".name", a.Name); err != nil {
		return nil, err
	}
	kind, params, err := fileType(at+".type", a)
	if err != nil {
		return nil, err
	}
	f := &file{contentID: strings.TrimSuffix(strings.TrimPrefix(a.ContentID, "<"), ">"), related: a.Inline && html, content: a.Content}
	if a.Inline && f.contentID == "" && contentID.MatchString(a.Name) {
		f.contentID = a.Name
	}
	if f.contentID != "" && (len(f.contentID) > MaxContentID || !contentID.MatchString(f.contentID)) {
		return nil, refuse(at+".cid", "a content ID is 1 to %d ASCII characters without spaces, quotes and brackets", MaxContentID)
	}
	if f.related && f.contentID == "" {
		return nil, refuse(at+".cid", "an inline file needs a content ID, by which the HTML names it: the name %q cannot be one", a.Name)
	}
	if strings.HasPrefix(kind, "message/") {
		if f.content, err = enclosed(at+".content", kind, a.Content); err != nil {
			return nil, err
		}
		f.asIs = true
	}
	disposition := "attachment"
	if a.Inline {
		disposition = "inline"
	}
	params["name"] = a.Name
	f.kind = fold(mime.FormatMediaType(kind, params))
	f.disposition = fold(mime.FormatMediaType(disposition, map[string]string{"filename": a.Name}))
	if f.kind == "" || f.disposition == "" {
		return nil, refuse(at+".type", "%q cannot be written", a.ContentType)
	}
	return f, nil
}

// contentID is what mail programs find again in "cid:…" (RFC 2392).
var contentID = regexp.MustCompile(`^[A-Za-z0-9.!#$%&'*+/=?^_{|}~@-]+$`)

// checkFileName takes names, not paths: a reader's program may save the file
// under it. Characters that turn the direction of writing round hide what a
// name ends with.
func checkFileName(at, name string) error {
	if err := checkLine(at, name, MaxFileName); err != nil {
		return err
	}
	switch {
	case strings.TrimSpace(name) == "":
		return refuse(at, "the file has no name")
	case strings.ContainsAny(name, `/\`):
		return refuse(at, "it is a path; give the name alone")
	case strings.Trim(name, ". ") == "":
		return refuse(at, "%q is no name of a file", name)
	case strings.ContainsAny(name, "\t"):
		return refuse(at, "it holds a control character")
	case strings.ContainsAny(name, "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"):
		return refuse(at, "it holds a character that turns the direction of writing")
	}
	return nil
}

// fileType gives the media type of a file and its parameters.
func fileType(at string, a *Attachment) (string, map[string]string, error) {
	if err := checkLine(at, a.ContentType, MaxContentType); err != nil {
		return "", nil, err
	}
	value := a.ContentType
	if value == "" {
		value = typeByName(a)
	}
	kind, params, err := mime.ParseMediaType(value)
	if err != nil || !mediaType.MatchString(kind) {
		return "", nil, refuse(at, "%q is no media type; write \"application/pdf\"", a.ContentType)
	}
	if strings.HasPrefix(kind, "multipart/") {
		return "", nil, refuse(at, "a file cannot be a %s", kind)
	}
	delete(params, "name")
	for key, p := range params {
		if !isASCII(p) {
			return "", nil, refuse(at, "the parameter %s takes ASCII only", key)
		}
	}
	return kind, params, nil
}

var mediaType = regexp.MustCompile(`^[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+$`) // RFC 6838 4.2

// typeByName guesses; what it says of the charset counts only where it is so.
func typeByName(a *Attachment) string {
	kind := mime.TypeByExtension(path.Ext(a.Name))
	switch {
	case kind == "", strings.HasPrefix(kind, "multipart/"), strings.HasPrefix(kind, "message/") && !sevenBit(crlf(a.Content)):
		return "application/octet-stream"
	case strings.HasPrefix(kind, "text/") && !utf8.Valid(a.Content):
		kind, _, _ = strings.Cut(kind, ";")
	}
	return kind
}

// enclosed makes a message within the message fit: it may not be encoded
// (RFC 2046 5.2.1), so it must be 7-bit already.
func enclosed(at, kind string, content []byte) ([]byte, error) {
	content = crlf(content)
	if !sevenBit(content) {
		return nil, refuse(at, "a %s cannot be encoded, and this one is not 7-bit text with lines of at most %d octets; attach it as application/octet-stream", kind, header.MaxLine)
	}
	return content, nil
}

// crlf makes every line end a CRLF.
func crlf(content []byte) []byte {
	content = bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n"))
	content = bytes.ReplaceAll(content, []byte("\r"), []byte("\n"))
	return bytes.ReplaceAll(content, []byte("\n"), []byte("\r\n"))
}

func sevenBit(content []byte) bool { return verify(content, false) == nil }

// fold puts each parameter of a media type on a line of its own, as far as
// that is needed.
func fold(value string) string {
	if len(value) <= 50 {
		return value
	}
	var b strings.Builder
	quoted := false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '\\' && quoted && i+1 < len(value):
			b.WriteByte(c)
			i++
		case c == '"':
			quoted = !quoted
		case c == ' ' && !quoted && i > 0 && value[i-1] == ';':
			b.WriteString("\r\n")
		}
		b.WriteByte(value[i])
	}
	return b.String()
}
