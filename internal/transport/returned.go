package transport

import "mailout/internal/mta"

// suppressedStatus is that of a recipient who gets no mail: refused by us.
var suppressedStatus = mta.Enhanced{Class: 5, Subject: 7, Detail: 1}

// spare ends the recipients who get no mail, before anybody is asked.
func (at *attempt) spare() {
	ask := at.w.c.opt.Suppressed
	if ask == nil {
		return
	}
	for i := range at.d.Recipients {
		why := ask(at.d, at.d.Recipients[i].Address)
		if why == "" {
			continue
		}
		at.a.Results[i] = mta.Result{
			Class: mta.ClassPermanent, Scope: mta.ScopeRecipient, Enhanced: suppressedStatus, Reason: why, Suppressed: true,
		}
		at.finish(i)
	}
}

// sender is the return path of the transaction in hand.
func (at *attempt) sender() string {
	if give := at.w.c.opt.ReturnPath; give != nil {
		return give(at.d, at.route, at.tx.Recipients)
	}
	return at.d.Message.Envelope.Sender
}
