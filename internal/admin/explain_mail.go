package admin

import (
	"net/http"
	"net/url"
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
}

// The bounds of names.
const (
	maxStream = 64
	maxUser   = 200
)

// UnknownSender stands for a return path of which nothing is known.
const UnknownSender = "?"

// ParseMail reads the mail's facts: sender ("<>" is the null return path),
// stream, user, and any number of tags. All may be missing.
func (r *ExplainRequest) ParseMail(q url.Values) error {
	bad := func(field, detail string) error {
		return &Problem{Status: http.StatusBadRequest, Field: field, Detail: detail}
	}
	r.Mail = ExplainMail{Sender: UnknownSender, Stream: mta.DefaultStream, User: q.Get("user"), Tags: q["tag"]}
	if s := strings.TrimSpace(q.Get("sender")); s == "<>" {
		r.Mail.Sender = ""
	} else if s != "" {
		m, err := smtp.ParseMailbox(withoutBrackets(s), true)
		if err != nil {
			return bad("sender", smtp.Harmless(s)+": "+err.Error())
		}
		r.Mail.Sender = m.String()
	}
	if s := q.Get("stream"); s != "" {
		r.Mail.Stream = s
	}
	if len(r.Mail.Stream) > maxStream || !mta.Printable(r.Mail.Stream) {
		return bad("stream", "this is no stream")
	}
	if len(r.Mail.User) > maxUser || !mta.Printable(r.Mail.User) {
		return bad("user", "this is no user")
	}
	if len(r.Mail.Tags) > mta.MaxTags {
		return bad("tag", "there are too many tags")
	}
	for _, t := range r.Mail.Tags {
		if t == "" || len(t) > mta.MaxTag || !mta.Printable(t) {
			return bad("tag", "this is no tag")
		}
	}
	return nil
}
