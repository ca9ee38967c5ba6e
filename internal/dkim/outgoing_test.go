package dkim

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailout/internal/header"
	"mailout/internal/mta"
)

// oneKey signs for widget.com alone.
type oneKey struct {
	keys  []SigningKey
	asked atomic.Int64
}

func (k *oneKey) For(domain string) []SigningKey {
	k.asked.Add(1)
	if domain != "widget.com" {
		return nil
	}
	return k.keys
}

func newOneKey(t testing.TB) *oneKey {
	k, err := Generate(Ed25519, 0)
	if err != nil {
		t.Fatal(err)
	}
	return &oneKey{keys: []SigningKey{{"widget.com", "m1", k}}}
}

// counted is content on a disk that counts how often its last octet is read.
type counted struct {
	text  string
	reads atomic.Int64
	fail  atomic.Bool
}

func (c *counted) Size() int64   { return int64(len(c.text)) }
func (c *counted) Bytes() []byte { return nil }
func (c *counted) ReadAt(p []byte, at int64) (int, error) {
	if c.fail.Load() {
		return 0, errors.New("the disk is gone")
	}
	if at+int64(len(p)) >= c.Size() {
		c.reads.Add(1)
	}
	return strings.NewReader(c.text).ReadAt(p, at)
}

const widget = "From: erp@widget.com\r\nSubject: x\r\n\r\n"

func TestSignerSharesWhatItMade(t *testing.T) {
	s := NewSigner(newOneKey(t), nil)
	c := &counted{text: widget + strings.Repeat("0123456789\r\n", 10_000)}
	id := mta.NewID(time.Now(), [10]byte{1})
	var all sync.WaitGroup
	fields := make([][]byte, 100)
	for i := range fields {
		all.Go(func() {
			made, err := s.Sign(&Outgoing{ID: id, Content: c, Shared: true})
			if fields[i] = made.Fields; err != nil || made.Names() != "m1._domainkey.widget.com" {
				t.Error(made.Names(), err)
			}
		})
	}
	all.Wait()
	for _, f := range fields {
		if len(f) == 0 || &f[0] != &fields[0][0] {
			t.Fatal("it was signed more than once")
		}
	}
	if n := c.reads.Load(); n != 1 {
		t.Errorf("the body was read %d times", n)
	}
	if got := s.Counts(); got != (Counts{Signed: 100}) {
		t.Errorf("%+v", got)
	}
	for name, o := range map[string]*Outgoing{
		"other form":   {ID: id, Converted: true, Content: c, Shared: true},
		"other fields": {ID: id, Prefix: []byte("List-Id: <a>\r\n"), Content: c, Shared: true},
	} {
		made, err := s.Sign(o)
		f := made.Fields
		if err != nil || len(f) == 0 || &f[0] == &fields[0][0] || o.Converted != bytes.Equal(f, fields[0]) {
			t.Errorf("%s: %s, %v", name, f, err)
		}
	}
	if n := c.reads.Load(); n != 2 { // the other form alone
		t.Errorf("the body was read %d times", n)
	}
}

// TestSignerAsksForKeysEachTime: a key that signs no more is not used, whatever is
// remembered.
func TestSignerAsksForKeysEachTime(t *testing.T) {
	keys, other := newOneKey(t), newOneKey(t)
	s := NewSigner(keys, nil)
	o := &Outgoing{ID: mta.NewID(time.Now(), [10]byte{1}), Content: Octets(widget + "hi\r\n"), Shared: true}
	first, err := s.Sign(o)
	if err != nil {
		t.Fatal(err)
	}
	keys.keys = []SigningKey{{"widget.com", "m2", other.keys[0].Key}}
	second, err := s.Sign(o)
	if err != nil || !bytes.Contains(second.Fields, []byte("s=m2;")) || !bytes.Contains(first.Fields, []byte("s=m1;")) || second.Names() != "m2._domainkey.widget.com" {
		t.Errorf("%s by %s, %v", second.Fields, second.Names(), err)
	}
	keys.keys = nil
	if third, err := s.Sign(o); err != nil || third.Fields != nil || third.Names() != "" {
		t.Errorf("%s by %s, %v", third.Fields, third.Names(), err)
	}
	if got := s.Counts(); got != (Counts{Signed: 2, Unsigned: 1}) {
		t.Errorf("%+v", got)
	}
}

// TestSignerForgetsFailures: what could not be read is read again.
func TestSignerForgetsFailures(t *testing.T) {
	for _, shared := range []bool{false, true} {
		s := NewSigner(newOneKey(t), nil)
		c := &counted{text: widget + "hi\r\n"}
		c.fail.Store(true)
		o := &Outgoing{ID: mta.NewID(time.Now(), [10]byte{1}), Content: c, Shared: shared}
		if made, err := s.Sign(o); err == nil {
			t.Errorf("signed %s", made.Fields)
		}
		c.fail.Store(false)
		if made, err := s.Sign(o); err != nil || len(made.Fields) == 0 {
			t.Errorf("%s, %v", made.Fields, err)
		}
		if got := s.Counts(); got != (Counts{Signed: 1, Failed: 1}) {
			t.Errorf("%+v", got)
		}
	}
}

func TestSignerIsBounded(t *testing.T) {
	s := NewSigner(newOneKey(t), nil)
	for i := range 2*maxMessages + 5 {
		id := mta.NewID(time.Now(), [10]byte{byte(i), byte(i >> 8)})
		if _, err := s.Sign(&Outgoing{ID: id, Content: Octets("Subject: from nobody\r\n\r\n"), Shared: true}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.mu.known); n != maxMessages {
		t.Errorf("%d messages are remembered", n)
	}
	// Fields too long to be kept are given all the same.
	id := mta.NewID(time.Now(), [10]byte{1})
	var many strings.Builder
	for i := range signable {
		many.WriteString(strings.Repeat(signable[i].name+": x\r\n", maxRepeated))
	}
	o := &Outgoing{ID: id, Content: Octets(widget[:len(widget)-2] + many.String() + "\r\n"), Shared: true}
	made, err := s.Sign(o)
	if err != nil || len(made.Fields) <= maxShared {
		t.Fatalf("%d octets, %v", len(made.Fields), err)
	}
	if k := s.of(form{id: id}); k.fields != nil || k.prefix != nil || k.keys != nil {
		t.Error("they are kept")
	}
}

// TestSignerSurvivesPanics: nobody waits for what will never come.
func TestSignerSurvivesPanics(t *testing.T) {
	s := NewSigner(newOneKey(t), nil)
	o := &Outgoing{ID: mta.NewID(time.Now(), [10]byte{1}), Content: panics{}, Shared: true}
	for range 2 {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			_, _ = s.Sign(o)
		}()
	}
}

type panics struct{ io.ReaderAt }

func (panics) Size() int64   { return 10 }
func (panics) Bytes() []byte { return nil }

// TestManyAuthors: hostile fields take no more than a look at each address. Were
// they compared with one another it would take minutes.
func TestManyAuthors(t *testing.T) {
	const many = header.MaxSize / 10
	text := "From: " + strings.Repeat("a@b,", many) + "\r\nSender: " + strings.Repeat("a@c,", many) + "\r\n\r\n"
	if got, err := domainOf(&Outgoing{Content: Octets(text)}); got != "b" || err != nil {
		t.Error(got, err)
	}
}

func TestAuthorDomain(t *testing.T) {
	for text, want := range map[string]string{
		"From: a@Widget.COM":                                     "widget.com",
		"from : \"A, B\" <a@widget.com> (c@d)":                   "widget.com",
		"From: a@x.test\r\nFrom: b@y.test":                       "x.test",
		"From: a@x.test, b@y.test":                               "x.test",
		"From: a@x.test, b@y.test\r\nSender: c@Y.test":           "y.test",
		"Sender: c@z.test\r\nFrom: a@x.test, b@y.test":           "x.test",
		"Sender: c@z.test, b@y.test\r\nFrom: a@x.test, b@y.test": "x.test",
		"Sender: c@z.test\r\nFrom: a@x.test":                     "x.test",
		"From: =?utf-8?q?J=C3=BCrgen?= <j@bücher.test>":          "xn--bcher-kva.test",
		"From: J\xfcrgen <j@x.test>":                             "x.test",
		"From: root":                                             "",
		"From: a@[192.0.2.1]":                                    "",
		"From: a@x_y.test, c@z.test":                             "z.test",
		"From: <a@x.test":                                        "",
		"From:":                                                  "",
		"Subject: x":                                             "",
		"From: undisclosed:;":                                    "",
		"From: a@x.test.":                                        "x.test",
		"From: \"a@b\"@x.test":                                   "x.test",
		"From:\r\n a@x.\r\n test":                                "x.test",
		"Resent-From: a@y.test\r\nFrom: a@x.test":                "x.test",
	} {
		if got, err := domainOf(&Outgoing{Content: Octets(text + "\r\n\r\nFrom: b@body.test\r\n")}); got != want || err != nil {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
}
