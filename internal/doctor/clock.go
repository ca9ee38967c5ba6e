package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	wire "github.com/miekg/dns"
)

// The clock. No outside service may be assumed, so two things are asked: the
// kernel, whether something keeps its clock right, and the configured HTTP
// reflectors (at most two), whose answers carry the time to the second. Of
// several the one nearest to ours counts: that two clocks are wrong alike is
// less likely than that one of them is wrong.

// The bounds of a clock that is wrong. A Date a minute off is shown out of
// order; some minutes, and signatures and certificates are not valid yet.
const (
	clockOff   = time.Minute
	clockWrong = 5 * time.Minute
)

// Bounds of asking reflectors for the time.
const (
	maxClocks    = 2
	clockTimeout = 5 * time.Second
)

const whyClock = "A wrong clock makes Date fields in the future, which filters take for spam, DKIM signatures that are not valid yet or no more, certificates that seem expired, and retries at the wrong time."

func clockCheck(ctx context.Context, x *exam) []Check {
	c := Check{ID: "clock", Subject: x.id.Hostname, Status: Unknown, Why: whyClock,
		Asked: "whether the kernel says that its clock is kept right"}
	kept, keptErr := x.world.Machine.fill().ClockKept()
	skew, from, told := x.skew(ctx)
	if from != "" {
		c.Asked += ", and the time that " + from + " gives"
	}
	switch {
	case told && skew.Abs() >= clockWrong:
		c.Status = Fail
	case told && skew.Abs() >= clockOff:
		c.Status = Warn
	case told, keptErr == nil && kept:
		c.Status = Pass
	case keptErr == nil:
		c.Status = Warn
	}
	c.Seen = clockWords(skew, told, kept, keptErr)
	if c.Status == Warn || c.Status == Fail {
		c.mend("timedatectl set-ntp true", "Let a time service (chrony, systemd-timesyncd, ntpd) keep the clock right, or the virtual machine's host.", You)
	}
	return []Check{c}
}

func clockWords(skew time.Duration, told, kept bool, keptErr error) string {
	var out []string
	switch {
	case told && skew.Abs() < clockOff:
		out = append(out, "the clock is right to the minute")
	case told && skew > 0:
		out = append(out, fmt.Sprintf("the clock is %s ahead", skew.Round(time.Second)))
	case told:
		out = append(out, fmt.Sprintf("the clock is %s behind", -skew.Round(time.Second)))
	}
	switch {
	case keptErr != nil:
		out = append(out, "the kernel does not tell whether it is kept right")
	case kept:
		out = append(out, "a time service keeps it right")
	default:
		out = append(out, "no time service keeps it right")
	}
	return strings.Join(out, "; ")
}

// skew is how far our clock is ahead of a reflector's, what rounding and the
// way may explain taken off; from names those that were asked.
func (x *exam) skew(ctx context.Context) (skew time.Duration, from string, told bool) {
	if x.opts.Offline {
		return 0, "", false
	}
	var names []string
	for _, r := range x.id.Reflectors {
		u, err := url.Parse(r)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || len(names) == maxClocks {
			continue
		}
		names = append(names, u.Hostname())
		s, err := x.askTime(ctx, r)
		if err == nil && (!told || s.Abs() < skew.Abs()) {
			skew, told = s, true
		}
	}
	return skew, strings.Join(names, " and "), told
}

// askTime asks one HTTP server for its Date (RFC 9110 6.6.1).
func (x *exam) askTime(ctx context.Context, address string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, clockTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, address, nil)
	if err != nil {
		return 0, err
	}
	// A wrong clock makes every certificate invalid, and that is what is to be
	// found out. Nothing secret is sent, and the answer changes nothing.
	transport := briefTransport(ctx, &tls.Config{InsecureSkipVerify: true}, func(address string) (net.Conn, error) {
		return x.dialName(ctx, address)
	})
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	before := x.world.Now()
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	after := x.world.Now()
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return 0, fmt.Errorf("%s gives no time: %w", address, err)
	}
	return offset(date, before, after), nil
}

// offset is how far the clock is outside of what a time given in whole seconds,
// at some moment between two, allows: ahead when positive.
func offset(date, before, after time.Time) time.Duration {
	switch {
	case before.After(date.Add(time.Second)):
		return before.Sub(date.Add(time.Second))
	case after.Before(date):
		return -date.Sub(after)
	}
	return 0
}

// dialName connects to a host by name through the configured DNS servers, and
// to an address as it is.
func (x *exam) dialName(ctx context.Context, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	if a, err := netip.ParseAddr(host); err == nil {
		addrs = []netip.Addr{a}
	} else {
		addrs = x.look(ctx, host, wire.TypeA).addrs()
		if x.id.IPv6 {
			addrs = append(addrs, x.look(ctx, host, wire.TypeAAAA).addrs()...)
		}
	}
	last := errors.New(host + " has no address")
	for _, a := range addrs[:min(len(addrs), 3)] {
		conn, err := x.world.Dial(ctx, netip.Addr{}, "tcp", net.JoinHostPort(a.String(), port))
		if err == nil {
			return conn, nil
		}
		last = err
	}
	return nil, last
}
