package route

import (
	"errors"
	"fmt"
	"strings"

	"mailout/internal/mta"
)

// spec is what a table says of where mail goes, before the configuration is
// known under which it is sent.
type spec struct {
	host   string
	pool   string
	action Action
	text   string
}

// maxText bounds the sentence of a bounce, in octets.
const maxText = 500

// poolWord begins the name of a pool where hosts may stand too.
const poolWord = "pool:"

var actionWords = map[string]Action{"hold": ActionHold, "discard": ActionDiscard, "fail": ActionFail}

// parseSpec reads what stands behind the pattern in a line of a table:
//
//	direct | router | HOST   each may be followed by pool:NAME
//	pool:NAME
//	hold | discard
//	fail [TEXT]
func parseSpec(text string) (s spec, err error) {
	word, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	if w, r, tab := strings.Cut(word, "\t"); tab {
		word, rest = w, r+" "+rest
	}
	rest = strings.TrimSpace(rest)
	action, is := actionWords[word]
	switch {
	case is && action == ActionFail:
		s.action, s.text = action, rest
		return s, s.check()
	case is && rest != "":
		return s, fmt.Errorf("%q has something behind it", word)
	case is:
		s.action = action
		return s, nil
	}
	if name, pool := strings.CutPrefix(word, poolWord); pool {
		if rest != "" {
			return s, fmt.Errorf("%q has something behind it", word)
		}
		s.pool = name
		return s, s.check()
	}
	s.host = word
	if rest != "" {
		name, pool := strings.CutPrefix(rest, poolWord)
		if !pool {
			return s, fmt.Errorf("%q is neither pool:NAME nor anything else that may stand behind a host", rest)
		}
		s.pool = name
		if name == "" {
			return s, errors.New("pool: has no name")
		}
	}
	return s, s.check()
}

// check says what cannot be in a spec.
func (s spec) check() error {
	switch {
	case s.action != ActionNone && (s.host != "" || s.pool != ""):
		return errors.New("a host or a pool beside hold, discard or fail")
	case s.text != "" && s.action != ActionFail:
		return errors.New("a text without fail")
	case len(s.text) > maxText || !mta.Printable(s.text):
		return fmt.Errorf("the text is not at most %d printable octets", maxText)
	case s.action != ActionNone:
		return nil
	case s.host == "" && s.pool == "":
		return errors.New("there is no target (write direct, router, a host, pool:NAME, hold, discard or fail)")
	case strings.ContainsAny(s.pool, " \t") || !mta.Printable(s.pool):
		return fmt.Errorf("%q is not the name of a pool", s.pool)
	case s.host == "" || s.host == Direct || s.host == ViaRouter:
		return nil
	}
	_, err := parseRelay(s.host, 0, smtpPort)
	return err
}

// String gives what parseSpec reads.
func (s spec) String() string {
	for word, action := range actionWords {
		if action == s.action {
			return strings.TrimSpace(word + " " + s.text)
		}
	}
	pool := ""
	if s.pool != "" {
		pool = poolWord + s.pool
	}
	return strings.TrimSpace(s.host + " " + pool)
}

// maxResolved bounds the targets that are remembered of a rule's table.
const maxResolved = 65_536

// resolve makes the target of what a table says under these settings. One that
// they cannot serve (a pool that they do not name) makes its mail wait.
func (c *compiled) resolve(rule *compiledRule, s spec, matched string) (*target, *mta.Failure) {
	rule.mu.Lock()
	defer rule.mu.Unlock()
	if t := rule.mu.resolved[s]; t != nil {
		return t, nil
	}
	t := rule.target // with the rule's port and TLS
	t.pool, t.text = s.pool, s.text
	switch {
	case s.action != ActionNone:
		t.way = actionWay(s.action)
	case s.host != "":
		if err := c.setTableHost(&t, s.host, rule); err != nil {
			return nil, fail(mta.CauseRouter, err, "%s: %v", matched, err)
		}
	}
	if err := c.checkPool(s.pool); err != nil {
		return nil, fail(mta.CauseLocal, err, "%s: %v", matched, err)
	}
	if rule.mu.resolved == nil || len(rule.mu.resolved) >= maxResolved {
		rule.mu.resolved = map[spec]*target{}
	}
	rule.mu.resolved[s] = &t
	return &t, nil
}

// setTableHost is setHost for a host of a table, whose own port wins.
func (c *compiled) setTableHost(t *target, host string, rule *compiledRule) error {
	switch host {
	case ViaRouter:
		return c.setHost(t, host, 0, nil)
	case Direct:
		if t.tls == mta.TLSImplicit {
			t.tls = mta.TLSRequired // which mail servers are reached with
		}
		return c.setHost(t, host, rule.port, nil)
	}
	peers := rule.peers
	peers.Hosts = []string{host}
	return c.setHost(t, "", rule.port, &peers)
}
