package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"mailout/internal/admin"
	"mailout/internal/config"
	"mailout/internal/daemon"
)

// explainCmd says how mail for an address would be delivered, and why. It asks
// the daemon, which knows limits and what waits; without one it tells what the
// configuration and DNS say.
type explainCmd struct {
	Probe   bool     `help:"Connect to the first host that answers, and go as far as EHLO, STARTTLS and QUIT."`
	Rcpt    bool     `help:"With --probe: also ask MAIL FROM:<>, RCPT and RSET. No mail is sent, but servers count such sessions."`
	Sender  string   `placeholder:"ADDRESS" help:"Return path of the mail; <> is the null return path."`
	Stream  string   `help:"Stream of the mail."`
	User    string   `help:"Who handed the mail over: a [[user]], or unix:NAME."`
	Tag     []string `sep:"none" help:"Tag of the mail; may be given several times."`
	Require bool     `name:"require-tls" help:"The mail asks for REQUIRETLS: verified TLS all the way."`
	Any     bool     `name:"tls-required-no" help:"The mail says TLS-Required: No: rather in clear text than not at all."`
	JSON    bool     `name:"json" help:"Print one JSON object."`
	Address string   `arg:"" help:"Recipient's address."`
}

// Run prints the explanation; status 1 when there is no way to deliver, or the
// probe failed.
func (c *explainCmd) Run(g *globals) error {
	if c.Rcpt && !c.Probe {
		return fail(exitUsage, "--rcpt goes with --probe")
	}
	request, err := admin.ParseExplain(c.Address, c.Probe, c.Rcpt)
	if err != nil {
		return fail(exitNoUser, "%v", err)
	}
	if err := request.ParseMail(c.query()); err != nil {
		return fail(exitUsage, "%v", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	e, err := c.ask(ctx, g, request)
	if err != nil {
		return err
	}
	if err := c.print(g, e); err != nil {
		return fail(exitIO, "printing the explanation: %v", err)
	}
	if e.Failure != "" || e.Probe != nil && e.Probe.Failure != "" {
		return &exitError{Status: exitFailure}
	}
	return nil
}

// query is the request as the API has it.
func (c *explainCmd) query() url.Values {
	return url.Values{
		"address": {c.Address}, "probe": {fmt.Sprint(c.Probe)}, "rcpt": {fmt.Sprint(c.Rcpt)},
		"sender": {c.Sender}, "stream": {c.Stream}, "user": {c.User}, "tag": c.Tag,
		"require_tls": {fmt.Sprint(c.Require)}, "tls_required_no": {fmt.Sprint(c.Any)},
	}
}

// ask asks the daemon, or the configuration alone when none runs.
func (c *explainCmd) ask(ctx context.Context, g *globals, request admin.ExplainRequest) (*admin.Explanation, error) {
	d, err := connect(g)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url("/v1/explain", c.query()), nil)
	if err != nil {
		return nil, err
	}
	resp, err := d.http.Do(req)
	switch {
	case err != nil && notRunning(err):
		return c.alone(ctx, g, request)
	case err != nil:
		return nil, d.unreachable(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return nil, refused(resp)
	}
	var e admin.Explanation
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil {
		return nil, fail(exitUnavailable, "the daemon's answer cannot be read: %v", err)
	}
	return &e, nil
}

// notRunning tells a daemon that is not there from one that may not be asked.
func notRunning(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

func (c *explainCmd) alone(ctx context.Context, g *globals, request admin.ExplainRequest) (*admin.Explanation, error) {
	cfg, err := config.Load(config.Path(g.Config))
	if err != nil {
		return nil, configError(err)
	}
	fmt.Fprintln(g.Stderr, "mailout: no daemon runs: this is what the configuration and DNS say; what was learnt and what waits is not known")
	e, err := daemon.Explain(ctx, cfg, request)
	if errors.Is(err, daemon.ErrConfig) {
		return nil, configError(err)
	}
	return e, err
}

func (c *explainCmd) print(g *globals, e *admin.Explanation) error {
	if c.JSON {
		return json.NewEncoder(g.Stdout).Encode(e)
	}
	w := tabwriter.NewWriter(g.Stdout, 0, 0, 2, ' ', 0)
	printExplanation(w, e)
	if e.Probe != nil {
		printProbe(w, e.Probe)
	}
	return w.Flush()
}

func printExplanation(w io.Writer, e *admin.Explanation) {
	row := func(name, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	row("recipient", "%s", e.Recipient)
	row("destination", "%s", e.Destination)
	if e.Suppressed != "" {
		row("suppressed", "%s", e.Suppressed)
	}
	if e.Failure != "" {
		row("no route", "%s", e.Failure)
		if e.Matched != "" {
			row("matched", "%s", e.Matched)
		}
	} else {
		row("route", "%s, by %s", e.Route, e.Matched)
		row("site", "%s", e.Site)
		if e.RouterTrouble != "" {
			row("router", "cannot be used %s", e.RouterTrouble)
		}
	}
	for _, why := range e.PassedOver {
		row("passed over", "%s", why)
	}
	for _, h := range e.Hosts {
		row("host", "%d %s %s (DNSSEC: %s%s)", h.Preference, h.Name, addressWords(h), h.DNSSEC, hostTLS(h))
	}
	if e.DNSSEC != "" {
		row("dnssec", "%s", e.DNSSEC)
	}
	if e.Failure == "" {
		printTLS(row, e)
	}
	printPolicies(row, e)
	if e.Failure == "" {
		source := e.Source
		if source == "" {
			source = "the address that the system chooses"
		}
		row("source", "%s, as %s", source, e.Helo)
		printSources(row, e)
	}
	for _, s := range e.Standing {
		row("standing", "%s", standingWords(&s))
	}
	for _, l := range e.Limits {
		row("limit", "%s = %d (%s)", l.Name, l.Value, l.Origin)
	}
	switch {
	case e.HeldBy != "":
		row("held by", "%s", e.HeldBy)
	case e.Daemon && e.Failure == "":
		row("held by", "nothing")
	}
	if e.Next != "" {
		row("next", "%s", e.Next)
	}
}

// hostTLS is what is demanded of a host.
func hostTLS(h admin.ExplainedHost) string {
	if h.TLS == nil {
		return ""
	}
	return "; TLS: " + h.TLS.Requirement
}

// printTLS tells how much TLS is demanded.
func printTLS(row func(name, format string, args ...any), e *admin.Explanation) {
	words := e.TLS.Requirement + ", by " + e.TLS.Origin
	if e.TLS.Why != "" {
		words += ": " + e.TLS.Why
	}
	row("TLS", "%s", words)
	if e.TLS.Testing != "" {
		row("TLS", "%s", e.TLS.Testing)
	}
}

// printPolicies tells what the domain publishes; the whole of an MTA-STS policy
// where it leaves mail no host.
func printPolicies(row func(name, format string, args ...any), e *admin.Explanation) {
	for _, p := range e.Policies {
		words := p.Type + " of " + p.Domain
		if p.Mode != "" {
			words += fmt.Sprintf(": mode %s, id %s, read %s ago, until %s", p.Mode, p.ID, time.Duration(p.Age)*time.Second, p.Expires)
			if e.Failure != "" {
				words += " (" + strings.Join(p.Lines, "; ") + ")"
			}
		} else if len(p.Lines) > 0 {
			words += ": " + strings.Join(p.Lines, "; ")
		}
		if p.Trouble != "" {
			words += ": " + p.Trouble + ": " + p.Reason
		}
		row("policy", "%s", words)
	}
}

// printSources tells of a pool that was named, of one of several sources, and of
// one whose only source is not all it should be.
func printSources(row func(name, format string, args ...any), e *admin.Explanation) {
	if len(e.Sources) == 1 && e.Sources[0].Proxy == "" && e.Sources[0].HeldBy == "" && e.Pool == config.DefaultPool {
		return
	}
	for _, s := range e.Sources {
		words := strings.Join(s.Addresses, " and ") + ", as " + s.Helo
		if s.Proxy != "" {
			words += ", by " + s.Proxy
		}
		switch {
		case s.LeftOut != "":
			words += ": left out: " + s.LeftOut
		case s.HeldBy != "":
			words += ": held: " + s.HeldBy
		case s.Avoided != "":
			words += ": avoided: " + s.Avoided
		default:
			words += fmt.Sprintf(", weight %d", s.Weight)
		}
		row("pool "+e.Pool, "%s", words)
	}
}

func addressWords(h admin.ExplainedHost) string {
	if h.Failure != "" {
		return "— " + h.Failure
	}
	if len(h.Addresses) == 0 {
		return "" // a socket
	}
	return "[" + strings.Join(h.Addresses, "] [") + "]"
}

func printProbe(w io.Writer, p *admin.ExplainedTest) {
	fmt.Fprintf(w, "\nprobe\t%s [%s]\n", p.Host, p.IP)
	for _, s := range p.Steps {
		what := strings.Join(nonEmpty(s.Command, s.Reply, s.TLS), " → ")
		fmt.Fprintf(w, "  %s\t%5d ms  %s\n", s.Stage, s.MS, what)
	}
	if p.Failure != "" {
		fmt.Fprintf(w, "  ended\t%s\n", p.Failure)
	}
}

func nonEmpty(list ...string) []string {
	var out []string
	for _, s := range list {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}
