package transport

import "mailout/internal/mta"

// made are the header fields that go out before the content: those of the latest
// transaction. The next one has the same, unless its content is in another form or
// its recipient another one for whom fields are made apart.
type made struct {
	apart     bool // each recipient has fields of its own (Options.Apart)
	valid     bool
	converted bool
	recipient int // by index; with apart
	prefix    Prefix
	asked     Outgoing // kept for its memory
}

// prepare gives the transaction in hand its fields.
func (at *attempt) prepare() *mta.Failure {
	ask := at.w.c.opt.Prepare
	if ask == nil {
		return nil
	}
	m := &at.made
	_, converted := at.tx.Content.(memory)
	if !m.valid || m.converted != converted || m.apart && m.recipient != at.here[0] {
		to := at.d.Recipients // also those whom the next host is asked for
		if m.apart {
			to = at.tx.Recipients
		}
		m.asked = Outgoing{Delivery: at.d, Route: at.route, Recipients: to, Content: at.tx.Content, Converted: converted}
		prefix, f := ask(at.w.abandon, &m.asked)
		if f != nil {
			m.valid = false
			return f
		}
		m.valid, m.converted, m.recipient, m.prefix = true, converted, at.here[0], prefix
	}
	at.tx.Prefix = m.prefix.Fields
	return nil
}

// strikeHere gives the recipients of the transaction in hand a failure of our own
// house.
func (at *attempt) strikeHere(f *mta.Failure) {
	for _, i := range at.here {
		at.strike(i, f, nil)
	}
}
