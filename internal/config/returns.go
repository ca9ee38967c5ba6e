package config

import (
	"slices"
	"strings"
	"time"

	"mailout/internal/suppress"
)

// Suppress is how addresses that get no mail are found and treated.
type Suppress struct {
	Answer       SuppressAnswer
	Learn        bool          // from replies and from what comes back
	Dead         time.Duration // how long a dead address stays listed
	Domain       time.Duration // and one whose domain is gone
	Sure         int           // days on which a clear reply must come
	Unsure       int           // and an unclear one
	UnsureWithin time.Duration
}

// SuppressAnswer says what happens to a message for an address that is listed.
type SuppressAnswer uint8

// The answers.
const (
	SuppressRecord SuppressAnswer = iota // it is taken, and the recipient ends at once
	SuppressRefuse                       // it is refused
)

// Returns is where bounces and complaints come back to.
type Returns struct {
	Domain     string // lower-case A-labels; empty: return paths stay as they are
	Streams    []string
	Users      []string
	Routers    bool // also for mail that goes to a router
	Forward    bool // reports go on to the return path that the application gave
	Complaints []string
	Valid      time.Duration // how long a return path of ours is good
}

var suppressAnswers = words[SuppressAnswer]{{"record", SuppressRecord}, {"refuse", SuppressRefuse}}

var suppressReasons = func() (out words[suppress.Reason]) {
	for _, r := range suppress.Reasons {
		out = append(out, struct {
			word  string
			value suppress.Reason
		}{string(r), r})
	}
	return out
}()

func suppressTable() *table {
	at := func(c *Config) *Suppress { return &c.Suppress }
	return &table{name: "suppress", doc: "Addresses that get no mail: what finds them, and what happens to mail for them.", keys: []*key{
		newKey("answer", word(suppressAnswers), func(c *Config, _ int) *SuppressAnswer { return &at(c).Answer }).
			is(`"record"`, "What happens to a message for an address that is listed. `record`: it is taken, the recipient ends at once with the event `suppressed`, and the sender is told; `refuse`: it is refused with `550 5.7.1`."),
		newKey("learn", boolean(), func(c *Config, _ int) *bool { return &at(c).Learn }).
			is(`true`, "Whether addresses are listed by what receivers say and by what comes back; else only by commands."),
		newKey("dead", duration(time.Hour, 10*year, "90d"), func(c *Config, _ int) *time.Duration { return &at(c).Dead }).
			is(`"90d"`, "How long an address that was found dead stays listed."),
		newKey("domain", duration(time.Minute, year, "1d"), func(c *Config, _ int) *time.Duration { return &at(c).Domain }).
			is(`"1d"`, "How long one stays whose domain does not exist."),
		newKey("sure", integer[int](1, 100), func(c *Config, _ int) *int { return &at(c).Sure }).
			is(`2`, "On how many days an address must be said to be dead by a clear reply (such as `550 5.1.1 User unknown`); with `1` it is listed at once."),
		newKey("unsure", integer[int](1, 100), func(c *Config, _ int) *int { return &at(c).Unsure }).
			is(`3`, "The same when the replies are not clear."),
		newKey("unsure_within", duration(time.Hour, year, "14d"), func(c *Config, _ int) *time.Duration { return &at(c).UnsureWithin }).
			is(`"14d"`, "Within what time these days must lie."),
	}}
}

// streamSuppress is the key of [[stream]] that says which reasons count.
func streamSuppress() *key {
	return newKey("suppress", list(word(suppressReasons), 0, len(suppress.Reasons), `["dead", "complained"]`), func(c *Config, i int) *[]suppress.Reason { return &c.Streams[i].Suppress }).
		is(`["dead", "complained", "unsubscribed", "manual"]`, "Reasons for which addresses on the suppression list get no mail of this stream.")
}

func returnsTable() *table {
	at := func(c *Config) *Returns { return &c.Returns }
	return &table{name: "returns", doc: "What comes back: bounces and complaints, for return paths of a domain that leads here.", keys: []*key{
		newKey("domain", mapped("domain", optionalDomain, keep), func(c *Config, _ int) *string { return &at(c).Domain }).
			is(`""`, "Domain of the return paths that mail goes out with, in place of those that applications gave; its MX record leads to a `[[listen]]` with `returns = true`. Empty: return paths stay as they are."),
		newKey("streams", list(text("stream name", checkStream), 0, maxList, `["news"]`), func(c *Config, _ int) *[]string { return &at(c).Streams }).
			is(`[]`, "Streams whose mail gets such a return path; an empty list means all."),
		newKey("users", list(text("user name", checkUser), 0, maxList, `["erp"]`), func(c *Config, _ int) *[]string { return &at(c).Users }).
			is(`[]`, "Users whose mail gets one; an empty list means everybody's."),
		newKey("routers", boolean(), func(c *Config, _ int) *bool { return &at(c).Routers }).
			is(`false`, "Whether mail that goes to a router gets one too; many routers take their own senders only."),
		newKey("forward", boolean(), func(c *Config, _ int) *bool { return &at(c).Forward }).
			is(`true`, "Whether a report of what came back goes on to the return path that the application gave."),
		newKey("complaints", list(mapped("mailbox", complaintMailbox, keep), 0, maxList, `["fbl@bounces.example.com"]`), func(c *Config, _ int) *[]string { return &at(c).Complaints }).
			is(`[]`, "Mailboxes to which feedback loops send their reports; they are served by listeners with `returns` too."),
		newKey("valid", duration(time.Hour, year, "60d"), func(c *Config, _ int) *time.Duration { return &at(c).Valid }).
			is(`"60d"`, "How long after a message was taken its return path is served."),
	}}
}

// complaintMailbox makes a mailbox lower-case: its local part is compared so.
func complaintMailbox(s string) (mailbox, problem string) {
	return strings.ToLower(s), checkMailbox(s)
}

// listenReturns is the key of [[listen]] that makes it a door for what comes back.
func listenReturns() *key {
	return newKey("returns", boolean(), func(c *Config, i int) *bool { return &c.Listen[i].Returns }).
		is(`false`, "Whether this address serves what comes back, for the return paths of `[returns]` alone: from everybody, without AUTH, and nothing is relayed.").restart()
}

// returnsComplete: return paths lead to a listener, and listeners have something
// to serve.
func (l *loader) returnsComplete() {
	if !l.sound("returns.domain", "returns.complaints") {
		return
	}
	r := &l.cfg.Returns
	serves := slices.ContainsFunc(l.cfg.Listen, func(x Listener) bool { return x.Returns })
	if r.Domain != "" && !serves {
		l.accuse("returns", "domain", 0, "has nobody who serves it: what comes back would be lost (write returns = true in a [[listen]] of its own)")
	}
	if r.Domain != "" && strings.HasPrefix(r.Domain, "[") {
		l.accuse("returns", "domain", 0, "is an address, which has no MX record")
	}
	for i, x := range l.cfg.Listen {
		if x.Returns && r.Domain == "" && len(r.Complaints) == 0 {
			l.accuse("listen", "returns", i, "has nothing to serve (write domain in [returns])")
		}
	}
}
