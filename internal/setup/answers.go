package setup

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"mailout/internal/config"
	"mailout/internal/dkim"
)

// Answers are given beforehand, by the names of the flags without dashes.
type Answers map[string]string

// The answers.
const (
	Router       = "router" // HOST[:PORT] or "none"
	RouterUse    = "router-use"
	RouterTLS    = "router-tls"
	Servers      = "dns"           // list, or "system"
	OutsideNames = "outside-names" // list
	Hostname     = "hostname"
	PublicIP     = "public-ip"  // list, or "auto"
	Reflectors   = "reflectors" // list, or "none"
	Probes       = "probes"     // list, or "none"
	DKIMDomain   = "dkim-domain"
	DKIMSelector = "dkim-selector"
	DKIMKind     = "dkim-algorithm"
	Postmaster   = "postmaster"
	Listen       = "listen" // IP:PORT or "none"
	Trusted      = "trusted"
	Spool        = "spool"
)

// keys are the settings that answers are for.
var keys = map[string]string{
	Router: "router", RouterUse: "router.use", RouterTLS: "router.tls", Servers: "dns.servers", OutsideNames: "identity.external_names",
	Hostname: "hostname", PublicIP: "identity.public_ip", Reflectors: "identity.reflectors", Probes: "identity.probes",
	DKIMDomain: "dkim.1.domain", DKIMSelector: "dkim.1.selector", Postmaster: "postmaster", Listen: "listen.1.address",
	Trusted: "listen.1.trusted", Spool: "spool",
}

// words stand for something else than a value of the setting.
var words = map[string]string{
	Servers: "system", PublicIP: "auto", OutsideNames: "none", Reflectors: "none", Probes: "none", DKIMDomain: "none", Listen: "none",
}

// AnswerError says which answer is not possible, and why.
type AnswerError struct {
	Flag string // without dashes
	Err  error
}

// Error gives "--FLAG: what is wrong".
func (e *AnswerError) Error() string { return "--" + e.Flag + ": " + e.Err.Error() }

// Unwrap gives the cause.
func (e *AnswerError) Unwrap() error { return e.Err }

// check looks at each answer by itself; the errors of all are joined.
func (a Answers) check() error {
	var flags []string
	for f := range a {
		flags = append(flags, f)
	}
	slices.Sort(flags)
	var all []error
	for _, f := range flags {
		if err := checkAnswer(f, a[f]); err != nil {
			all = append(all, &AnswerError{f, plain(err)})
		}
	}
	_, selected := a[DKIMSelector]
	_, kind := a[DKIMKind]
	if (selected || kind) && a[DKIMDomain] == "none" {
		all = append(all, &AnswerError{DKIMDomain, errors.New(`"none" makes no key, and --dkim-selector and --dkim-algorithm are about one`)})
	}
	return errors.Join(all...)
}

func checkAnswer(flag, v string) error {
	switch {
	case flag == DKIMKind:
		return checkAlgorithm(v)
	case v == words[flag] && v != "":
		return nil
	case v == "":
		return errors.New("is empty")
	}
	key, known := keys[flag]
	if !known {
		return errors.New("there is no such answer")
	}
	_, err := config.Apply("", nil, config.Change{Key: key, Value: v})
	return err
}

func checkAlgorithm(v string) error {
	if a := dkim.Algorithm(v); a != dkim.RSA && a != dkim.Ed25519 {
		return fmt.Errorf("%q is no algorithm of DKIM (write %s or %s; \"mailout dkim new\" adds a key of the other)", v, dkim.RSA, dkim.Ed25519)
	}
	return nil
}

// plain is an error of the configuration without places in a text that nobody
// has seen.
func plain(err error) error {
	var all config.Errors
	if !errors.As(err, &all) {
		return err
	}
	var out []string
	for _, e := range all {
		if text := e.Message; !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return errors.New(strings.Join(out, "; "))
}
