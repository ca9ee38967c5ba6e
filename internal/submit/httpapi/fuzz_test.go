package httpapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"mailout/internal/rest"
)

// seeds are bodies for the fuzz targets.
var seeds = []string{
	simple, batchOfTwo, "{}", "[]", "", "null", "{", `{"from":`, "\ufeff" + simple,
	`{"from":{"name":"A","address":"a@b.example"},"to":["\"B, C\" <b@c.example>"],"headers":{"X-A":["1","2"]},"metadata":{"a":1.5e3,"b":true,"c":null}}`,
	`{"attachments":[{"name":"a","content":"aGVs\r\nbG8","inline":true,"cid":"x"}],"text":"\ud83d\ude00\u00fc\\\/\b\f"}`,
	`{"raw":"U3ViamVjdDogeA0KDQp4","from":"a@b.example","to":"c@d.example"}`,
	`{"subject":"{{a}} {{ b }}","recipients":[{"to":"a@b.example","substitutions":{"a":"1","b":"{{c}}"}}]}`,
	`{"messages":[{"to":"a@b.example"}],"subject":"x"}`,
}

// FuzzReadMessage: whatever comes is read or refused as a problem, and what is
// read is what the standard library reads.
func FuzzReadMessage(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	limits := Limits{MessageSize: 1 << 20, Recipients: 50}
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := readMessage(bytes.Clone(body), limits)
		body = bytes.TrimPrefix(body, []byte("\ufeff"))
		if err != nil {
			if _, ok := err.(*rest.Problem); !ok {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		var std map[string]any
		if err := json.Unmarshal(body, &std); err != nil {
			t.Fatalf("the standard library refuses what was taken: %v", err)
		}
		for name, have := range map[string]string{"subject": m.Subject, "text": m.Text, "html": m.HTML, "stream": m.Stream} {
			if want, _ := std[name].(string); have != want || !utf8.ValidString(have) {
				t.Fatalf("%s: %q, not %q", name, have, want)
			}
		}
	})
}

// FuzzReadBatch: what is read can be expanded or is refused.
func FuzzReadBatch(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	limits := Limits{MessageSize: 1 << 16, Recipients: 50}
	f.Fuzz(func(t *testing.T, body []byte) {
		b, err := readBatch(body, limits)
		if err != nil || b.Messages != nil {
			return
		}
		parts, err := b.templates(limits)
		if err != nil {
			return
		}
		for i := range b.Recipients {
			m, err := parts.message(i)
			if err == nil && (len(m.Subject) > 1<<16+len(body) || strings.ContainsAny(m.Subject, "\r\n") && !strings.ContainsAny(b.Template.Subject, "\r\n")) {
				t.Fatalf("%q", m.Subject)
			}
		}
	})
}

// FuzzDecodeInPlace: it agrees with the standard library.
func FuzzDecodeInPlace(f *testing.F) {
	for _, s := range []string{"", "aGVsbG8=", "aGVsbG8", "aG Vs\r\nbG8=", "a", "=", "====", "aGU=aGU=", "aGV=", "_-", strings.Repeat("QUJD", 3000)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		clean := strings.NewReplacer(" ", "", "\t", "", "\r", "", "\n", "").Replace(string(text))
		want, werr := base64.StdEncoding.Strict().DecodeString(clean)
		if werr != nil {
			want, werr = base64.RawStdEncoding.Strict().DecodeString(clean)
		}
		got, err := decodeInPlace(bytes.Clone(text))
		if (err == nil) != (werr == nil) || err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%q: %q %v, not %q %v", text, got, err, want, werr)
		}
	})
}
