package dkim_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	msgauth "github.com/emersion/go-msgauth/dkim"

	"mailout/internal/dkim"
	"mailout/internal/eightbit"
	"mailout/internal/mtatest"
)

// disk is content that is not in memory.
type disk string

func (d disk) ReadAt(p []byte, at int64) (int, error) {
	return strings.NewReader(string(d)).ReadAt(p, at)
}
func (d disk) Size() int64   { return int64(len(d)) }
func (d disk) Bytes() []byte { return nil }

// pair is a key of each algorithm, and where a verifier finds them.
func pair(t testing.TB) ([]dkim.SigningKey, func(string) ([]string, error)) {
	t.Helper()
	var keys []dkim.SigningKey
	records := map[string]string{}
	for _, a := range []dkim.Algorithm{dkim.RSA, dkim.Ed25519} {
		k, err := dkim.Generate(a, 0)
		if err != nil {
			t.Fatal(err)
		}
		one := dkim.SigningKey{Domain: "origin.test", Selector: string(a), Key: k}
		keys = append(keys, one)
		records[dkim.Name(one.Selector, one.Domain)] = k.TXT()
	}
	return keys, func(name string) ([]string, error) { return []string{records[name]}, nil }
}

// verifyAll asks a verifier that is not ours about each signature of a message.
func verifyAll(message string, lookUp func(string) ([]string, error)) []error {
	found, err := msgauth.VerifyWithOptions(strings.NewReader(message), &msgauth.VerifyOptions{LookupTXT: lookUp})
	if err != nil {
		return []error{err}
	}
	var out []error
	for _, v := range found {
		if v.Domain != "origin.test" {
			continue // the application's
		}
		out = append(out, v.Err)
	}
	return out
}

func good(results []error, n int) bool {
	return len(results) == n && !slices.ContainsFunc(results, func(err error) bool { return err != nil })
}

// TestOddMessagesVerify: each message of the corpus verifies under both keys, from
// memory and from disk alike, and its signature fields are as mail has them.
func TestOddMessagesVerify(t *testing.T) {
	keys, lookUp := pair(t)
	corpus := append(mtatest.OddMessages(), mtatest.OddLong()...)
	if len(corpus) < 100 {
		t.Fatalf("the corpus has %d messages", len(corpus))
	}
	seen := map[string]bool{}
	for _, m := range corpus {
		if seen[m.Name] {
			t.Errorf("%s: there twice", m.Name)
		}
		seen[m.Name] = true
		t.Run(m.Name, func(t *testing.T) {
			text := m.Wire()
			if !strings.Contains(text, "\r\n\r\n") {
				text += "\r\n" // as it is stored; and the verifier wants it
			}
			fields, err := dkim.Sign(nil, dkim.Octets(text), keys, time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			if got := verifyAll(string(fields)+text, lookUp); !good(got, 2) {
				t.Errorf("%v\n%s", got, fields)
			}
			for line := range strings.Lines(string(fields)) {
				if len(line) > 80 || !strings.HasSuffix(line, "\r\n") {
					t.Errorf("the line %q", line)
				}
			}
			again, err := dkim.Sign(nil, disk(text), keys, time.Time{})
			if err != nil || string(again) != string(fields) {
				t.Errorf("from disk: %s, %v", again, err)
			}
		})
	}
}

// TestConvertedMessagesVerify: so does the form of each for hosts without 8BITMIME.
func TestConvertedMessagesVerify(t *testing.T) {
	keys, lookUp := pair(t)
	keys = keys[1:]
	converted := 0
	for _, m := range append(mtatest.OddMessages(), mtatest.OddLong()...) {
		text := m.Wire()
		if needed, err := eightbit.Needed(strings.NewReader(text), int64(len(text))); err != nil || !needed {
			continue
		}
		var out bytes.Buffer
		if err := eightbit.Convert(&out, strings.NewReader(text), int64(len(text))); err != nil {
			t.Fatal(err)
		}
		fields, err := dkim.Sign(nil, dkim.Octets(out.Bytes()), keys, time.Time{})
		if err != nil || !good(verifyAll(string(fields)+out.String(), lookUp), 1) {
			t.Errorf("%s: %v\n%s", m.Name, err, fields)
		}
		if good(verifyAll(string(fields)+text, lookUp), 1) {
			t.Errorf("%s: the other form verifies, too", m.Name)
		}
		converted++
	}
	if converted < 10 {
		t.Errorf("%d messages were converted", converted)
	}
}
