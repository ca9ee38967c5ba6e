package suppress

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"mailout/internal/smtp"
)

// Reader reads a file of addresses: CSV with a header line that names the
// columns, JSON objects one a line, or plain addresses one a line. It tells which
// by the first line. Empty lines, and in plain files lines that begin with #,
// count nothing. It holds one line at a time.
type Reader struct {
	// Defaults stand in for what an entry does not say: Stream, Reason, Expires.
	Defaults Suppression

	in   *bufio.Reader
	now  time.Time
	line int
	next func() (Suppression, error)
}

// maxLine bounds one line of a file, in octets.
const maxLine = 64 << 10

// LineError says what is wrong with a line; the reader goes on behind it.
type LineError struct {
	Line int
	Err  error
}

// Error implements error.
func (e *LineError) Error() string { return strconv.Itoa(e.Line) + ": " + e.Err.Error() }

// Unwrap gives the cause.
func (e *LineError) Unwrap() error { return e.Err }

// NewReader begins to read.
func NewReader(r io.Reader, now time.Time) *Reader {
	return &Reader{in: bufio.NewReaderSize(r, maxLine), now: now}
}

// Read gives the next entry and its line. The error is io.EOF at the end, a
// *LineError for a line that is wrong, or the reader's own.
func (r *Reader) Read() (Entry, int, error) {
	if r.next == nil {
		if err := r.begin(); err != nil {
			return Entry{}, r.line, err
		}
	}
	s, err := r.next()
	if err != nil {
		return Entry{}, r.line, err
	}
	for _, f := range []struct {
		to      *string
		instead string
	}{{&s.Stream, r.Defaults.Stream}, {&s.Reason, r.Defaults.Reason}, {&s.Expires, r.Defaults.Expires}} {
		if *f.to == "" {
			*f.to = f.instead
		}
	}
	e, err := s.Entry(r.now)
	if err != nil {
		return Entry{}, r.line, &LineError{r.line, err}
	}
	return e, r.line, nil
}

// begin looks at the first line that counts.
func (r *Reader) begin() error {
	if mark, _ := r.in.Peek(3); string(mark) == "\xef\xbb\xbf" {
		_, _ = r.in.Discard(3)
	}
	line, err := r.text(true)
	if err != nil {
		return err
	}
	switch {
	case line[0] == '{':
		r.next = r.object
	case isHeader(line):
		return r.columns(line)
	default:
		r.next = r.plain
	}
	first, next := string(line), r.next
	r.next = func() (Suppression, error) {
		r.next = next
		return r.parse(first)
	}
	return nil
}

// parse reads a line that was read already.
func (r *Reader) parse(line string) (Suppression, error) {
	if line[0] == '{' {
		return r.unmarshal([]byte(line))
	}
	return Suppression{Address: line}, nil
}

// text gives the next line that is not empty, without its end; comments are left
// out where they are possible.
func (r *Reader) text(comments bool) ([]byte, error) {
	for {
		line, err := r.in.ReadSlice('\n')
		if len(line) > 0 {
			r.line++
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			if err := r.skip(); err != nil {
				return nil, err
			}
			return nil, &LineError{r.line, fmt.Errorf("the line has more than %d octets", maxLine)}
		}
		line = bytes.TrimSpace(line)
		if len(line) > 0 && (!comments || line[0] != '#') {
			return line, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// skip reads to the end of a line that is too long.
func (r *Reader) skip() error {
	for {
		_, err := r.in.ReadSlice('\n')
		if !errors.Is(err, bufio.ErrBufferFull) {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

func (r *Reader) plain() (Suppression, error) {
	line, err := r.text(true)
	return Suppression{Address: string(line)}, err
}

func (r *Reader) object() (Suppression, error) {
	line, err := r.text(false)
	if err != nil {
		return Suppression{}, err
	}
	return r.unmarshal(line)
}

func (r *Reader) unmarshal(line []byte) (s Suppression, err error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return s, &LineError{r.line, errors.New("not an entry as a JSON object: " + smtp.Harmless(err.Error()))}
	}
	if d.More() {
		return s, &LineError{r.line, errors.New("more than one JSON object stands in the line")}
	}
	return s, nil
}

// Columns are the columns of a CSV file, in the order of an export.
var Columns = []string{"address", "stream", "reason", "class", "reply", "message", "since", "expires", "hits", "last_hit"}

// isHeader reports whether a line names columns.
func isHeader(line []byte) bool {
	first, _, _ := strings.Cut(string(line), ",")
	name := strings.ToLower(strings.Trim(strings.TrimSpace(first), `"`))
	for _, c := range Columns {
		if name == c || name == "email" {
			return true
		}
	}
	return false
}

// columns begins a CSV file. Its lines are read one by one, so that a wrong
// quote spoils its own line only; a value has no line end.
func (r *Reader) columns(line []byte) error {
	names, err := record(line)
	if err != nil {
		return &LineError{r.line, err}
	}
	place := map[string]int{}
	for i, name := range names {
		name = strings.ToLower(strings.TrimSpace(name))
		if name == "email" {
			name = "address"
		}
		known := false
		for _, c := range Columns {
			known = known || c == name
		}
		if _, twice := place[name]; !known || twice {
			return &HeaderError{r.line, smtp.Harmless(cut(name, 40))}
		}
		place[name] = i
	}
	if _, there := place["address"]; !there {
		return &HeaderError{r.line, ""}
	}
	r.next = func() (Suppression, error) { return r.row(place, len(names)) }
	return nil
}

// HeaderError says that the first line of a CSV file names no columns of ours;
// nothing can be read of it.
type HeaderError struct {
	Line int
	Name string // the column; empty: address is missing
}

// Error implements error.
func (e *HeaderError) Error() string {
	if e.Name == "" {
		return strconv.Itoa(e.Line) + ": there is no column address"
	}
	return fmt.Sprintf("%d: the column %q is not known, or there twice (%s)", e.Line, e.Name, strings.Join(Columns, ", "))
}

func record(line []byte) ([]string, error) {
	c := csv.NewReader(bytes.NewReader(line))
	c.FieldsPerRecord = -1
	fields, err := c.Read()
	if err != nil {
		return nil, errors.New("not a line of CSV")
	}
	return fields, nil
}

func (r *Reader) row(place map[string]int, width int) (s Suppression, err error) {
	line, err := r.text(false)
	if err != nil {
		return s, err
	}
	fields, err := record(line)
	if err == nil && len(fields) != width {
		err = fmt.Errorf("the line has %d values, the first line %d", len(fields), width)
	}
	if err != nil {
		return s, &LineError{r.line, err}
	}
	hits := ""
	for name, to := range map[string]*string{
		"address": &s.Address, "stream": &s.Stream, "reason": &s.Reason, "class": &s.Class, "reply": &s.Reply, "message": &s.Message,
		"since": &s.Since, "expires": &s.Expires, "hits": &hits, "last_hit": &s.LastHit,
	} {
		if i, there := place[name]; there {
			*to = strings.TrimSpace(fields[i])
		}
	}
	if hits != "" {
		if s.Hits, err = strconv.Atoi(hits); err != nil {
			return s, &LineError{r.line, fmt.Errorf("hits: %.20q is not a number", hits)}
		}
	}
	return s, nil
}

// Row gives the entry as a line of CSV, in the order of Columns.
func (s *Suppression) Row() []string {
	hits := ""
	if s.Hits > 0 {
		hits = strconv.Itoa(s.Hits)
	}
	return []string{s.Address, s.Stream, s.Reason, s.Class, strings.Join(strings.Fields(s.Reply), " "), s.Message, s.Since, s.Expires, hits, s.LastHit}
}
