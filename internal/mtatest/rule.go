package mtatest

import (
	"net"
	"path"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Stage is the step of a session at which a Rule applies, and which an Event
// tells of.
type Stage uint8

// The stages. What a rule's pattern is matched against stands behind each.
const (
	StageConnect   Stage = iota // the peer's IP address; the reply is the greeting
	StageHelo                   // EHLO and HELO: the name given
	StageStartTLS               // nothing
	StageHandshake              // nothing; after the 220 to STARTTLS
	StageMail                   // the return path without angle brackets
	StageRcpt                   // the recipient without angle brackets
	StageData                   // DATA, or the first BDAT of a transaction: the return path
	StageDot                    // the content is complete: the return path
	StageRset                   // nothing
	StageNoop                   // NOOP, HELP, VRFY and unknown commands: the command line
	StageQuit                   // nothing
	StageClose                  // events only: the session ended
	numStages
)

var stageNames = [numStages]string{"connect", "helo", "starttls", "handshake", "mail", "rcpt", "data", "dot", "rset", "noop", "quit", "close"}

// String gives the stage's word.
func (s Stage) String() string { return stageNames[s] }

// Action is what a receiving server does instead of the ordinary. The zero
// value is the ordinary, so that a rule can exempt.
type Action struct {
	// Reply is sent instead of the ordinary reply: "550 5.1.1 no such user".
	// Lines after "\n" become continuation lines with the same code. Its first
	// digit decides whether the command took effect.
	Reply string
	// Raw is sent instead of any reply, byte for byte; its first digit, too,
	// decides whether the command took effect.
	Raw string
	// After is sent right behind the reply in the same write: bytes injected
	// after the 220 to STARTTLS, a second reply nobody asked for.
	After string
	// Delay passes before the reply; replies to earlier commands go out first.
	Delay time.Duration
	// Drop closes the connection: after Reply or Raw when set, else without.
	Drop bool
	// Reset makes Drop a connection reset.
	Reset bool
	// Hang never answers: what comes is read and thrown away.
	Hang bool
	// Keep, at StageDot, takes the message although the action drops, hangs or
	// refuses: the final reply is lost.
	Keep bool
	// Greylist refuses the first so many tries of each return path and
	// recipient with Reply (default 451 4.7.1), then lets the rest pass. At
	// StageRcpt only.
	Greylist int
	// Takeover is given the connection and what was read from it but not used;
	// the session ends when it returns. The other fields are then ignored.
	Takeover func(conn net.Conn, pending []byte)
}

// Rule is one line of a script: the first rule that fits a stage and pattern,
// and whose First and Skip allow it, is carried out.
type Rule struct {
	Stage Stage
	// Match is a pattern with * and ? in which case does not matter; empty
	// fits everything.
	Match string
	// Regexp is used instead of Match when set.
	Regexp *regexp.Regexp
	// Skip leaves out the first so many that fit; First then serves only so
	// many (0: all). Whoever is left out is offered to the next rule.
	Skip, First int
	// If, when set, decides besides: it is asked when everything else fits, and
	// may keep an account of how often. Sessions ask at the same time.
	If func() bool
	Action
}

// script is a set of rules in use.
type script struct {
	rules [numStages][]*liveRule
	grey  struct {
		sync.Mutex
		tries map[string]int // by return path and recipient; bounded by maxGrey
	}
}

// maxGrey bounds the greylist's memory; beyond it everything new passes.
const maxGrey = 1_000_000

type liveRule struct {
	Rule
	glob string
	hits atomic.Int64
}

func newScript(rules []Rule) *script {
	s := &script{}
	s.grey.tries = make(map[string]int)
	for _, r := range rules {
		s.rules[r.Stage] = append(s.rules[r.Stage], &liveRule{Rule: r, glob: strings.ToLower(r.Match)})
	}
	return s
}

// find gives the action for arg at stage; false when no rule fits.
func (s *script) find(stage Stage, arg, sender string) (Action, bool) {
	for _, r := range s.rules[stage] {
		if !r.fits(arg) {
			continue
		}
		if r.If != nil && !r.If() {
			continue
		}
		n := r.hits.Add(1)
		if n <= int64(r.Skip) || r.First > 0 && n > int64(r.Skip+r.First) {
			continue
		}
		if r.Greylist > 0 && !s.tooEarly(sender, arg, r.Greylist) {
			continue
		}
		a := r.Action
		if r.Greylist > 0 && a.Reply == "" {
			a.Reply = "451 4.7.1 Greylisted, please try again later"
		}
		return a, true
	}
	return Action{}, false
}

func (r *liveRule) fits(arg string) bool {
	switch {
	case r.Regexp != nil:
		return r.Regexp.MatchString(arg)
	case r.glob == "" || r.glob == "*":
		return true
	}
	return globMatch(r.glob, strings.ToLower(arg))
}

// globMatch matches * and ?, both of which also fit a slash and a dot.
func globMatch(pattern, text string) bool {
	// path.Match stops * at a slash; 0x1F stands in for it on both sides, and
	// its other specials are taken literally.
	ok, err := path.Match(globEscape.Replace(pattern), strings.ReplaceAll(text, "/", "\x1f"))
	return err == nil && ok
}

var globEscape = strings.NewReplacer("/", "\x1f", `\`, `\\`, "[", `\[`)

// tooEarly counts a try of sender and recipient.
func (s *script) tooEarly(sender, rcpt string, tries int) bool {
	key := sender + "\x00" + rcpt
	s.grey.Lock()
	defer s.grey.Unlock()
	n := s.grey.tries[key]
	if n >= tries || n == 0 && len(s.grey.tries) >= maxGrey {
		return false
	}
	s.grey.tries[key] = n + 1
	return true
}
