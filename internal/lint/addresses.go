package lint

import (
	"net/mail"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"

	"mailout/internal/header"
	"mailout/internal/smtp"
)

// addresses judges the fields that hold addresses, and whether domains fit.
func (l *linter) addresses() {
	var from, replyTo []string
	for i := range l.fields.Len() {
		f := l.fields.Field(i)
		if !f.Is("From") && !f.Is("Sender") && !f.Is("Reply-To") && !f.Is("To") && !f.Is("Cc") {
			continue
		}
		list := l.addressList(f, l.lines[i])
		switch {
		case f.Is("From"):
			from = append(from, list...)
		case f.Is("Reply-To"):
			replyTo = append(replyTo, list...)
		}
	}
	_, line := l.first("From")
	if len(from) > 1 {
		l.add("from.many", line, "From holds %d addresses", len(from))
		if _, sender := l.first("Sender"); sender == 0 {
			l.add("from.sender", line, "From holds %d addresses, and no Sender says who sent it", len(from))
		}
	}
	if len(from) > 0 {
		l.alignment(domainOf(from[0]), line)
		l.replies(from, replyTo)
	}
}

// addressList reads the addresses of a field and judges each.
func (l *linter) addressList(f header.Field, line int) []string {
	text := f.Text()
	if text == "" || emptyGroup(text) && !f.Is("From") && !f.Is("Sender") {
		if text == "" && !f.Is("From") { // an empty From is missing
			l.add("address.invalid", line, "%s is empty", f.Name())
		}
		return nil
	}
	parser := mail.AddressParser{WordDecoder: lenient}
	list, err := parser.ParseList(text)
	if err != nil {
		l.add("address.invalid", line, "%s: %q is no list of addresses: %s", f.Name(), clip(text), strings.TrimPrefix(err.Error(), "mail: "))
		return nil
	}
	if f.Is("Sender") && len(list) > 1 {
		l.add("address.invalid", line, "Sender holds %d addresses; one is allowed", len(list))
	}
	var out []string
	for _, a := range list {
		out = append(out, a.Address)
		quoted := strings.Trim((&mail.Address{Address: a.Address}).String(), "<>")
		if _, err := smtp.ParseMailbox(quoted, true); err != nil {
			l.add("address.invalid", line, "%s: %s: %v", f.Name(), clip(a.Address), err)
		}
	}
	return out
}

// emptyGroup tells "undisclosed-recipients:;" and its like.
func emptyGroup(text string) bool {
	name, rest, ok := strings.Cut(text, ":")
	return ok && !strings.ContainsAny(name, "@<\"") && strings.TrimSpace(rest) == ";"
}

func domainOf(address string) string {
	return strings.ToLower(address[strings.LastIndexByte(address, '@')+1:])
}

// organization is the domain that relaxed alignment compares.
func organization(domain string) string {
	if org, err := publicsuffix.EffectiveTLDPlusOne(domain); err == nil {
		return org
	}
	return domain
}

// alignment compares From's domain with the signatures' and the return path's,
// as DMARC's relaxed mode does. A message without signatures may get one on
// its way.
func (l *linter) alignment(from string, line int) {
	if from == "" {
		return
	}
	var signers []string
	signed, at := false, 0
	for i := range l.fields.Len() {
		f := l.fields.Field(i)
		if !f.Is("DKIM-Signature") {
			continue
		}
		if d := strings.ToLower(tag(f.Text(), "d")); d != "" {
			signers = append(signers, d)
			signed = signed || organization(d) == organization(from)
			at = l.lines[i]
		}
	}
	if len(signers) > 0 && !signed {
		l.add("dkim.alignment", at, "the signatures are of %s, From is of %s: DMARC does not count them", strings.Join(signers, ", "), from)
	}
	path := strings.Trim(l.opts.From, "<> ")
	if path != "" && !signed && organization(domainOf(path)) != organization(from) {
		l.add("return-path.alignment", line, "the return path is of %s, From of %s: SPF does not count for DMARC, and only a DKIM signature of From's domain can", domainOf(path), from)
	}
}

// tag is the value of a tag of a DKIM-Signature (RFC 6376 3.2).
func tag(text, name string) string {
	for part := range strings.SplitSeq(text, ";") {
		key, value, ok := strings.Cut(part, "=")
		if ok && strings.TrimSpace(key) == name {
			return strings.Join(strings.Fields(value), "")
		}
	}
	return ""
}

// freemail are the providers whose addresses fraud uses for replies.
var freemail = []string{
	"aol.com", "gmail.com", "gmx.com", "gmx.de", "gmx.net", "googlemail.com", "hotmail.com", "icloud.com", "live.com",
	"mail.com", "mail.ru", "msn.com", "outlook.com", "proton.me", "protonmail.com", "yahoo.com", "yandex.com", "yandex.ru", "ymail.com",
}

// replies judges Reply-To where filters do: a free mailbox for replies to mail
// of somebody else's domain.
func (l *linter) replies(from, replyTo []string) {
	if slices.Contains(freemail, domainOf(from[0])) {
		return
	}
	for _, a := range replyTo {
		if d := domainOf(a); slices.Contains(freemail, d) {
			_, line := l.first("Reply-To")
			l.add("reply-to.freemail", line, "From is of %s, and replies go to %s", domainOf(from[0]), d)
			return
		}
	}
}
