package submit

import (
	"fmt"
	"net/mail"

	"mailout/internal/account"
	"mailout/internal/header"
	"mailout/internal/mta"
	"mailout/internal/smtp"
)

// checkFrom refuses a From field with an address that the user may not send
// from. Each author of the field counts (RFC 5322 3.6.2), and so does each
// field where there are several: which one a reader sees is not ours to know.
func checkFrom(u *account.User, f header.Field) error {
	if u == nil || u.From.Any() {
		return nil
	}
	list, err := mail.ParseAddressList(f.Text())
	if err != nil || len(list) == 0 {
		return notPermitted(u, "header.from", "the From field cannot be read, and "+u.Name+" may not send from every address")
	}
	for _, a := range list {
		address := a.Address
		if m, err := smtp.ParseMailbox(address, true); err == nil {
			address = m.String()
		}
		if !u.From.Allow(address) {
			return NotPermitted(u, "header.from", "the From field "+header.Harmless(address, 100))
		}
	}
	return nil
}

// checkMadeFrom refuses a message without a From field whose author would be the
// daemon itself: with a null return path there is nobody else. What a return
// path may be, the door has seen to.
func (d *draft) checkMadeFrom() error {
	u := d.request.User
	if u == nil || u.From.Any() || d.request.Envelope.Sender != "" {
		return nil
	}
	return notPermitted(u, "header.from", u.Name+" may not send a message that has neither a From field nor a return path")
}

// NotPermitted is the refusal of an address that a user may not send from, with
// those that are allowed. what names the place and the address.
func NotPermitted(u *account.User, field, what string) *Refusal {
	return notPermitted(u, field, fmt.Sprintf("%s may not send from %s", u.Name, what))
}

func notPermitted(u *account.User, field, text string) *Refusal {
	return refuse(550, mta.Enhanced{Class: 5, Subject: 7, Detail: 1}, field, text+" (allowed: "+u.From.String()+")")
}
