package admin

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"mailout/internal/mta"
	"mailout/internal/smtp"
)

// ExplainMail is the mail that an explanation is about, beside its recipient: what
// [[route]] may look at.
type ExplainMail struct {
	// Sender is the return path; UnknownSender when nothing is said, so that it is
	// met by no pattern but "*".
	Sender string
	Stream string // never empty
	User   string // as mta.Origin.User; empty: nobody signed in
	Tags   []string
	// RequireTLS is REQUIRETLS, AnyTLS the field TLS-Required: No (RFC 8689); not both.
	RequireTLS, AnyTLS bool
}

// The bounds of names.
const (
	maxStream = 64
	maxUser   = 200
)

// UnknownSender stands for a return path of which nothing is known.
const UnknownSender = "?"

// ParseMail reads the mail's facts: sender ("<>" is the null return path),
// stream, user, any number of tags, require_tls and tls_required_no. All may be
// missing.
func (r *ExplainRequest) ParseMail(q url.Values) error {
	r.Mail = ExplainMail{Sender: UnknownSender, Stream: mta.DefaultStream, User: q.Get("user"), Tags: q["tag"]}
	if s := strings.TrimSpace(q.Get("sender")); s == "<>" {
		r.Mail.Sender = ""
	} else if s != "" {
		m, err := smtp.ParseMailbox(withoutBrackets(s), true)
		if err != nil {
			return badParameter("sender", smtp.Harmless(s)+": "+err.Error())
		}
		r.Mail.Sender = m.String()
	}
	if s := q.Get("stream"); s != "" {
		r.Mail.Stream = s
	}
	if len(r.Mail.Stream) > maxStream || !mta.Printable(r.Mail.Stream) {
		return badParameter("stream", "this is no stream")
	}
	if len(r.Mail.User) > maxUser || !mta.Printable(r.Mail.User) {
		return badParameter("user", "this is no user")
	}
	if err := r.Mail.parseTLS(q); err != nil {
		return err
	}
	if len(r.Mail.Tags) > mta.MaxTags {
		return badParameter("tag", "there are too many tags")
	}
	for _, t := range r.Mail.Tags {
		if t == "" || len(t) > mta.MaxTag || !mta.Printable(t) {
			return badParameter("tag", "this is no tag")
		}
	}
	return nil
}

// parseTLS reads what the mail itself says of TLS.
func (m *ExplainMail) parseTLS(q url.Values) error {
	for _, f := range []struct {
		name string
		on   *bool
	}{{"require_tls", &m.RequireTLS}, {"tls_required_no", &m.AnyTLS}} {
		s := q.Get(f.name)
		if s == "" {
			continue
		}
		on, err := strconv.ParseBool(s)
		if err != nil {
			return badParameter(f.name, "this must be true or false")
		}
		*f.on = on
	}
	if m.RequireTLS && m.AnyTLS {
		return badParameter("tls_required_no", "a message with REQUIRETLS has no use for TLS-Required: No (RFC 8689 4.1)")
	}
	return nil
}

func badParameter(field, detail string) error {
	return &Problem{Status: http.StatusBadRequest, Field: field, Detail: detail}
}
