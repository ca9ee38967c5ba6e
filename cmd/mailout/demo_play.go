package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mailout/internal/mtatest"
)

// demoExpect is how one recipient must end.
type demoExpect struct {
	recipient string
	final     string // delivered or failed
	host      string
	attempts  int
	tls       bool
	code      int    // of the final record, 0: any
	enhanced  string // with failed
	deferred  int    // code of a deferral before the end; 0: none may be
	tried     string // a host that must have failed on the way
	bounced   bool   // the sender must be told
}

// demoMessage is one message handed over, and what the journal says of it.
type demoMessage struct {
	id      string
	subject string // unique: receivers are searched by it
	expect  []demoExpect
	records []demoRecord
	report  bool // a bounce: not ours, found by its ID in the journal
}

// pollEvery is how often the journal is asked when no server reports a
// message.
const pollEvery = 250 * time.Millisecond

// play hands the messages over, scene by scene, and waits for their ends.
func (d *demo) play(ctx context.Context) error {
	for _, scene := range []func(context.Context) error{
		d.sceneTwoDomains, d.sceneGreylist, d.sceneUnknownUser, d.sceneDeadHost, d.sceneRetry,
	} {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) sceneTwoDomains(ctx context.Context) error {
	d.show.title("1. One message to two domains, handed over by SMTP",
		"Each domain's mail server is looked up and spoken to directly; one of them offers TLS.")
	m := &demoMessage{subject: "Order 1001", expect: []demoExpect{
		{recipient: "anna@fine.example", final: "delivered", host: "mx.fine.example", attempts: 1},
		{recipient: "bert@tls.example", final: "delivered", host: "mx.tls.example", attempts: 1, tls: true},
	}}
	if err := d.bySMTP(ctx, m); err != nil {
		return err
	}
	return d.until(ctx, d.allFinal(m))
}

func (d *demo) sceneGreylist(ctx context.Context) error {
	d.show.title("2. A server that says \"later\"",
		"grey.example refuses the first try of every sender and recipient. The message stays in the queue.")
	m := &demoMessage{subject: "Order 1002", expect: []demoExpect{
		{recipient: "carla@grey.example", final: "delivered", host: "mx.grey.example", attempts: 2, deferred: 451},
	}}
	if err := d.bySMTP(ctx, m); err != nil {
		return err
	}
	return d.until(ctx, func() bool { return m.saw("carla@grey.example", "deferred") || m.final("carla@grey.example") != nil })
}

func (d *demo) sceneUnknownUser(ctx context.Context) error {
	d.show.title("3. One user who exists and one who does not, by `mailout send`",
		"The file is removed once the message is safe. The failure comes back to the sender as a bounce.")
	m := &demoMessage{subject: "Order 1003", expect: []demoExpect{
		{recipient: "dora@users.example", final: "delivered", host: "mx.users.example", attempts: 1},
		{recipient: "nobody@users.example", final: "failed", host: "mx.users.example", attempts: 1, code: 550, enhanced: "5.1.1", bounced: true},
	}}
	if err := d.bySend(ctx, m, "to:dora@users.example", "cc:nobody@users.example"); err != nil {
		return err
	}
	if err := d.until(ctx, func() bool { return d.allFinal(m)() && m.saw("nobody@users.example", "bounced") }); err != nil {
		return err
	}
	report := &demoMessage{id: m.reportOf("nobody@users.example"), report: true, expect: []demoExpect{
		{recipient: demoSender, final: "delivered", host: "mx.widget.example", attempts: 1},
	}}
	d.mail = append(d.mail, report)
	if err := d.until(ctx, d.allFinal(report)); err != nil {
		return err
	}
	d.showBounce()
	return nil
}

func (d *demo) sceneDeadHost(ctx context.Context) error {
	d.show.title("4. A domain whose first mail server is down, by `mailout send`",
		"The second one is tried in the same attempt.")
	m := &demoMessage{subject: "Order 1004", expect: []demoExpect{
		{recipient: "emil@twomx.example", final: "delivered", host: "alive.twomx.example", attempts: 1, tried: demoDeadHost},
	}}
	if err := d.bySend(ctx, m, "to:emil@twomx.example"); err != nil {
		return err
	}
	return d.until(ctx, d.allFinal(m))
}

func (d *demo) sceneRetry(ctx context.Context) error {
	d.show.title("5. The greylisted message is tried again", "Its time comes about three seconds after the first try.")
	return d.until(ctx, d.allFinal(d.mail...))
}

// letter is a small message as an application would write it: no Date, no
// Message-ID; mailout completes them.
func letter(m *demoMessage) string {
	var to []string
	for _, e := range m.expect {
		to = append(to, e.recipient)
	}
	return strings.Join([]string{
		"From: Widget Works <" + demoSender + ">", "To: " + strings.Join(to, ", "), "Subject: " + m.subject, "",
		m.body(), "",
	}, "\r\n")
}

// body is the text that receivers must get unchanged; its second line begins
// with a dot on purpose.
func (m *demoMessage) body() string {
	return "Thank you. " + m.subject + " is on its way.\r\n.. and this line begins with dots."
}

// bySMTP hands a message over at the daemon's SMTP door.
func (d *demo) bySMTP(ctx context.Context, m *demoMessage) error {
	c, err := mtatest.Dial(ctx, d.daemon.door)
	if err != nil {
		return fail(exitUnavailable, "demo: the SMTP door: %v", err)
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.Conn().SetDeadline(deadline); err != nil {
			return fail(exitUnavailable, "demo: the SMTP door: %v", err)
		}
	}
	if err := c.Hello("app.widget.example"); err != nil {
		return fail(exitUnavailable, "demo: the SMTP door: %v", err)
	}
	var to []string
	for _, e := range m.expect {
		to = append(to, e.recipient)
	}
	d.show.line("application", fmt.Sprintf("hands over %q from <%s> for %s", m.subject, demoSender, strings.Join(to, " and ")))
	o, err := c.Send(demoSender, to, []byte(letter(m)))
	if err == nil {
		err = o.Err()
	}
	if err != nil {
		return fail(exitFailure, "demo: the daemon did not take the message: %v", err)
	}
	d.show.line("mailout", o.Final.String())
	m.id = o.ID()
	d.mail = append(d.mail, m)
	if err := c.Quit(); err != nil {
		return fail(exitFailure, "demo: QUIT: %v", err)
	}
	return nil
}

// bySend hands a message over with `mailout send`.
func (d *demo) bySend(ctx context.Context, m *demoMessage, rcpts ...string) error {
	file := filepath.Join(d.dir, "order.eml")
	if err := os.WriteFile(file, []byte(letter(m)), 0o600); err != nil {
		return fail(exitUnavailable, "demo: %v", err)
	}
	d.show.line("application", "runs: mailout send -f "+demoSender+" order.eml "+strings.Join(rcpts, " "))
	out, _, err := d.daemon.command(ctx, append([]string{"send", "-f", demoSender, file}, rcpts...)...)
	if err != nil {
		return fail(exitFailure, "demo: %v", err)
	}
	m.id = strings.TrimSpace(out)
	d.mail = append(d.mail, m)
	d.show.line("mailout", "accepted as "+m.id)
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		return fail(exitFailure, "demo: the file order.eml is still there after it was accepted (%v)", err)
	}
	d.show.line("application", "order.eml is gone: the message is in mailout's hands")
	return nil
}

// until shows the journal as it grows until done, or until the context ends.
func (d *demo) until(ctx context.Context, done func() bool) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if err := d.poll(ctx); err != nil {
			return err
		}
		if done() {
			return nil
		}
		select {
		case <-d.world.arrived:
		case <-tick.C:
		case <-d.daemon.process.Ended():
			return fail(exitFailure, "demo: the daemon ended: %s", d.daemon.process.State())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// poll reads the journal of every message that is not finished and shows what
// is new.
func (d *demo) poll(ctx context.Context) error {
	for _, m := range d.mail {
		if m.finished() {
			continue
		}
		records, err := d.daemon.trace(ctx, m.id)
		if err != nil {
			return err
		}
		for _, r := range records[min(len(m.records), len(records)):] {
			d.show.journal(r)
		}
		if len(records) > len(m.records) {
			m.records = records
		}
	}
	return nil
}

func (d *demo) allFinal(mail ...*demoMessage) func() bool {
	return func() bool {
		for _, m := range mail {
			for _, e := range m.expect {
				if m.final(e.recipient) == nil {
					return false
				}
			}
		}
		return true
	}
}

// final gives the record that ended a recipient; nil while it is open.
func (m *demoMessage) final(recipient string) *demoRecord {
	for i, r := range m.records {
		if r.Recipient != recipient {
			continue
		}
		switch r.Event {
		case "delivered", "relayed", "failed", "expired", "cancelled":
			return &m.records[i]
		}
	}
	return nil
}

func (m *demoMessage) saw(recipient, event string) bool { return m.find(recipient, event) != nil }

func (m *demoMessage) find(recipient, event string) *demoRecord {
	for i, r := range m.records {
		if r.Recipient == recipient && r.Event == event {
			return &m.records[i]
		}
	}
	return nil
}

// reportOf gives the ID of the bounce about a recipient.
func (m *demoMessage) reportOf(recipient string) string {
	if r := m.find(recipient, "bounced"); r != nil {
		return r.Report
	}
	return ""
}

// finished reports that nothing more is expected in the journal.
func (m *demoMessage) finished() bool {
	for _, e := range m.expect {
		if m.final(e.recipient) == nil || e.bounced && !m.saw(e.recipient, "bounced") {
			return false
		}
	}
	return true
}
