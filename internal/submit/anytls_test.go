package submit

import (
	"strings"
	"testing"
)

// TestTLSRequiredNo: the field of RFC 8689 3 is found wherever it stands in the
// header; REQUIRETLS wins over it, and what is no such field says nothing.
func TestTLSRequiredNo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		header  string
		require bool
		want    bool
	}{
		"none":             {"", false, false},
		"no":               {"TLS-Required: No\r\n", false, true},
		"any case, folded": {"tls-REQUIRED:\r\n\tnO \r\n", false, true},
		"REQUIRETLS wins":  {"TLS-Required: No\r\n", true, false},
		"another word":     {"TLS-Required: Yes\r\n", false, false},
		"more than a word": {"TLS-Required: No, thanks\r\n", false, false},
		"twice":            {"TLS-Required: No\r\nTLS-Required: No\r\n", false, false},
		"contradictory":    {"TLS-Required: No\r\nTLS-Required: Yes\r\n", false, false},
		"another field":    {"X-TLS-Required: No\r\nMIME-Version: No\r\n", false, false},
		"in the body":      {"Subject: x\r\n\r\nTLS-Required: No\r\n", false, false},
	} {
		for _, size := range []int{0, 1} { // all at once, and octet by octet
			r := request("b@example.net")
			r.Envelope.RequireTLS = c.require
			sub, content, err := newWorld().submit(t, r, c.header+"From: a@example.com\r\n\r\nbody\r\n", size)
			if err != nil {
				t.Fatal(name, err)
			}
			if sub.Message.AnyTLS != c.want || sub.Message.Envelope.RequireTLS != c.require {
				t.Errorf("%s: any TLS %v, REQUIRETLS %v", name, sub.Message.AnyTLS, sub.Message.Envelope.RequireTLS)
			}
			if !strings.Contains(content, strings.TrimPrefix(c.header, "Subject: x\r\n")) {
				t.Errorf("%s: the field did not stay: %q", name, content)
			}
		}
	}
}
