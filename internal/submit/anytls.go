package submit

import (
	"strings"

	"mailout/internal/header"
)

// relaxed reads the TLS-Required field of a message (RFC 8689 3): "No" says
// that the message is to arrive rather than be protected, whatever the
// recipient's domain publishes. There is one such field and one such word; with
// anything else what is published stands.
type relaxed struct{ fields, no int }

func (r *relaxed) take(f header.Field) {
	r.fields++
	if strings.EqualFold(strings.TrimSpace(f.Text()), "no") {
		r.no++
	}
}

func (r *relaxed) says() bool { return r.fields == 1 && r.no == 1 }
