package config

import (
	"strings"

	"mailout/internal/mta"
)

// TLSReports is what receivers are told daily of how TLS went (RFC 8460).
type TLSReports struct {
	Send         bool
	From         string // author of the reports by mail
	Contact      string // of the domain of From
	Organization string
}

func tlsReportTable() *table {
	at := func(c *Config) *TLSReports { return &c.TLSReports }
	return &table{name: "tlsrpt", doc: "Daily reports to receivers who ask for them: how TLS with their mail servers went.", keys: []*key{
		newKey("send", boolean(), func(c *Config, _ int) *bool { return &at(c).Send }).
			is(`true`, "Whether sessions are counted and reports are sent."),
		newKey("from", text("mailbox", checkMailbox), func(c *Config, _ int) *string { return &at(c).From }).
			derives("`postmaster`", func(c *Config, _ int) { at(c).From = c.Postmaster }, "Mailbox that reports by mail come from. A DKIM key signs for its domain, or none is sent by mail: receivers ignore them without."),
		newKey("contact", text("mailbox", checkMailbox), func(c *Config, _ int) *string { return &at(c).Contact }).
			derives("`from`", func(c *Config, _ int) { at(c).Contact = at(c).From }, "Mailbox for questions, which stands in the reports; its domain is that of `from`, and the name of the sender there."),
		newKey("organization", text("name", checkOrganization), func(c *Config, _ int) *string { return &at(c).Organization }).
			derives("the domain of `contact`", func(c *Config, _ int) { at(c).Organization = mailDomain(at(c).Contact) }, "Who sends the reports, for people."),
	}}
}

func mailDomain(mailbox string) string {
	return strings.ToLower(mailbox[strings.LastIndexByte(mailbox, '@')+1:])
}

// checkOrganization says why s is no organization's name; empty when it is one.
func checkOrganization(s string) string {
	const most = 100
	if strings.TrimSpace(s) == "" || len(s) > most || !mta.Printable(s) {
		return shown(s) + " is not a name (1 to 100 octets that can be seen)"
	}
	return ""
}

// tlsReportsComplete: the reports name one sender (RFC 8460 5.3: TLS-Report-Submitter
// is the domain of contact-info, and a signature of that domain counts).
func (l *loader) tlsReportsComplete() {
	t := &l.cfg.TLSReports
	if l.sound("tlsrpt.from", "tlsrpt.contact", "postmaster") && mailDomain(t.From) != mailDomain(t.Contact) {
		l.accuse("tlsrpt", "contact", 0, "is of another domain than from, "+quote(t.From)+" (receivers take reports that name one sender only)")
	}
}
