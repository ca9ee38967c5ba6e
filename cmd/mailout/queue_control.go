package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"golang.org/x/term"

	"mailout/internal/admin"
	"mailout/internal/control"
	"mailout/internal/queue"
)

// selectFlags name what a command is about; all that are given must be met.
type selectFlags struct {
	Message     string `arg:"" optional:"" name:"id" help:"Only this message."`
	Destination string `help:"Only this recipient domain."`
	Stream      string `help:"Only this stream."`
	Sender      string `help:"Only this return path (<> is the null one)."`
	Recipient   string `help:"Only messages to this recipient."`
	Site        string `help:"Only this site, as \"queue list\" names it."`
	State       string `help:"Only this state: queued, deferred or held."`
	Older       string `help:"Only what arrived at least so long ago (30m, 12h, 7d)." placeholder:"SPAN"`
	Newer       string `help:"Only what arrived at most so long ago." placeholder:"SPAN"`
	All         bool   `help:"Everything, when nothing else is named."`

	Reason string `help:"Why, for the journal and whoever looks." placeholder:"TEXT"`
	Yes    bool   `short:"y" help:"Do not ask."`
	DryRun bool   `help:"Only show what would be touched."`
	JSON   bool   `name:"json" help:"The result as one JSON object."`
}

type (
	queueHoldCmd struct {
		selectFlags
		Expires string `help:"With --destination (and --stream) alone: end the hold after this time." placeholder:"SPAN"`
		Once    bool   `help:"With --destination (and --stream) alone: hold what is there, not what comes later."`
	}
	queueReleaseCmd struct{ selectFlags }
	queueRetryCmd   struct{ selectFlags }
	queueCancelCmd  struct{ selectFlags }
	queueRerouteCmd struct {
		selectFlags
		To      string `help:"Where to: direct (by the domain's mail exchangers), router (the one of [router]), a host, or default (as configured)." placeholder:"WHERE"`
		Clear   bool   `help:"The same as --to default."`
		Expires string `help:"With --destination (and --stream) alone: end the route after this time." placeholder:"SPAN"`
		Once    bool   `help:"With --destination (and --stream) alone: reroute what is there, not what comes later."`
	}
)

// Run holds deliveries, or a destination.
func (c *queueHoldCmd) Run(g *globals) error {
	more := url.Values{}
	if c.Expires != "" {
		more.Set("expires", c.Expires)
	}
	if c.Once {
		more.Set("once", "true")
	}
	return c.run(g, queue.VerbHold, more)
}

// Run ends holds.
func (c *queueReleaseCmd) Run(g *globals) error { return c.run(g, queue.VerbRelease, nil) }

// Run makes deliveries due.
func (c *queueRetryCmd) Run(g *globals) error { return c.run(g, queue.VerbRetry, nil) }

// Run gives deliveries, or a destination, another route.
func (c *queueRerouteCmd) Run(g *globals) error {
	if (c.To == "") == !c.Clear {
		return fail(exitUsage, "say where to: --to direct, --to router, --to HOST[:PORT], or --clear")
	}
	more := url.Values{"to": {c.To}}
	if c.Clear {
		more.Set("to", control.Default)
	}
	if c.Expires != "" {
		more.Set("expires", c.Expires)
	}
	if c.Once {
		more.Set("once", "true")
	}
	return c.run(g, queue.VerbReroute, more)
}

// Run ends deliveries without a report.
func (c *queueCancelCmd) Run(g *globals) error { return c.run(g, queue.VerbCancel, nil) }

// query gives the request's parameters.
func (f *selectFlags) query(more url.Values) (url.Values, error) {
	q := url.Values{}
	some := f.All
	for name, value := range map[string]string{
		"id": f.Message, "destination": f.Destination, "stream": f.Stream, "sender": f.Sender, "recipient": f.Recipient,
		"site": f.Site, "state": f.State, "older": f.Older, "newer": f.Newer,
	} {
		if value != "" {
			q.Set(name, value)
			some = true
		}
	}
	if !some {
		return nil, fail(exitUsage, "name what is meant (an ID, --destination, --stream, --sender, --recipient, --site, --state, --older, --newer), or --all")
	}
	if f.All && len(q) > 0 {
		return nil, fail(exitUsage, "--all is everything: leave it out, or the conditions")
	}
	if f.All {
		q.Set("all", "true")
	}
	if f.Reason != "" {
		q.Set("reason", f.Reason)
	}
	for name := range more {
		q.Set(name, more.Get(name))
	}
	return q, nil
}

func (f *selectFlags) run(g *globals, verb queue.Verb, more url.Values) error {
	q, err := f.query(more)
	if err != nil {
		return err
	}
	if !f.Yes && !f.DryRun && !answers(g.Stdin) {
		return fail(exitUsage, "nobody can be asked here (the standard input is no terminal): add --yes, or --dry-run to see what would be touched")
	}
	d, err := connect(g)
	if err != nil {
		return err
	}
	path := "/v1/deliveries/" + verb.String()
	if !f.Yes {
		goOn, err := f.confirm(g, d, path, q, verb)
		if err != nil || !goOn {
			return err
		}
	}
	body, err := d.post(path, q, "application/x-ndjson")
	if err != nil {
		return controlUsage(err)
	}
	defer body.Close()
	result, err := follow(g.Stderr, verb, body)
	if err != nil {
		return err
	}
	if f.JSON {
		return json.NewEncoder(g.Stdout).Encode(result)
	}
	printResult(g.Stdout, verb, &result)
	return nil
}

// answers reports whether somebody can be asked.
func answers(in io.Reader) bool {
	f, ok := in.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// post sends a command.
func (d *daemonClient) post(path string, query url.Values, accept string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, d.url(path, query), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	return d.do(req)
}

// controlUsage makes a refused parameter a usage error.
func controlUsage(err error) error {
	if e, ok := err.(*exitError); ok && e.Status == exitData {
		e.Status = exitUsage
	}
	return err
}

// confirm shows what would be touched, and asks unless that was all.
func (f *selectFlags) confirm(g *globals, d *daemonClient, path string, q url.Values, verb queue.Verb) (bool, error) {
	dry := url.Values{"dry_run": {"true"}}
	for name, v := range q {
		dry[name] = v
	}
	body, err := d.post(path, dry, "application/json")
	if err != nil {
		return false, controlUsage(err)
	}
	defer body.Close()
	var p admin.ControlPreview
	if err := json.NewDecoder(body).Decode(&p); err != nil {
		return false, fail(exitSoftware, "the daemon's answer is not understood: %v", err)
	}
	if f.JSON && f.DryRun {
		return false, json.NewEncoder(g.Stdout).Encode(&p)
	}
	printPreview(g.Stdout, verb, &p)
	if f.DryRun {
		return false, nil
	}
	fmt.Fprintf(g.Stdout, "Go on and %s? [y/N] ", verb)
	answer, err := bufio.NewReader(g.Stdin).ReadString('\n')
	if word := strings.ToLower(strings.TrimSpace(answer)); err == nil && (word == "y" || word == "yes") {
		return true, nil
	}
	return false, fail(exitFailure, "nothing was done")
}

func printPreview(w io.Writer, verb queue.Verb, p *admin.ControlPreview) {
	switch p.Matched {
	case 0:
		fmt.Fprintf(w, "nothing is there now to %s\n", verb)
	case 1:
		fmt.Fprintf(w, "1 delivery to %s:\n", verb)
	default:
		fmt.Fprintf(w, "%d deliveries to %s, the first of them:\n", p.Matched, verb)
	}
	for i := range p.Sample {
		printDelivery(w, &p.Sample[i])
	}
	if more := p.Matched - int64(len(p.Sample)); more > 0 {
		fmt.Fprintf(w, "and %d more\n", more)
	}
}

// follow reads the lines of progress, shows them on a terminal, and gives the
// last one.
func follow(show io.Writer, verb queue.Verb, body io.Reader) (control.Result, error) {
	var l admin.ControlLine
	terminal := onTerminal(show)
	for line, err := range lines(body) {
		if err == nil {
			l = admin.ControlLine{}
			err = json.Unmarshal(line, &l)
		}
		if err != nil {
			return l.Result, fail(exitSoftware, "the daemon's answer broke off (%v); a part may be done, and the same command does the rest", err)
		}
		if terminal {
			fmt.Fprintf(show, "\r\x1b[K%d of %d so far", l.Changed, l.Matched)
		}
	}
	if terminal {
		fmt.Fprint(show, "\r\x1b[K")
	}
	switch {
	case l.Error != "":
		return l.Result, fail(exitTemporary, "%s after %d of %d: %s; the same command does the rest", verb, l.Changed, l.Matched, l.Error)
	case !l.Finished:
		return l.Result, fail(exitTemporary, "the daemon's answer broke off after %d of %d; the same command does the rest", l.Changed, l.Matched)
	}
	return l.Result, nil
}

var doneWords = map[queue.Verb]string{
	queue.VerbHold: "held", queue.VerbRelease: "released", queue.VerbRetry: "due now", queue.VerbCancel: "cancelled", queue.VerbReroute: "rerouted",
}

func printResult(w io.Writer, verb queue.Verb, r *control.Result) {
	if r.Hold != nil {
		fmt.Fprintln(w, r.Hold.String())
	}
	if r.Reroute != nil {
		fmt.Fprintln(w, r.Reroute.String())
	}
	if r.RoutesEnded > 0 {
		fmt.Fprintf(w, "%s ended, of destinations\n", counted(int64(r.RoutesEnded), "route"))
	}
	if r.Ended > 0 {
		fmt.Fprintf(w, "%s ended, of destinations\n", counted(int64(r.Ended), "hold"))
	}
	deliveries := fmt.Sprintf("%d deliveries", r.Changed)
	if r.Changed == 1 {
		deliveries = "1 delivery"
	}
	fmt.Fprintf(w, "%s %s\n", deliveries, doneWords[verb])
	for _, x := range []struct {
		n    int64
		text string
	}{
		{r.Flight, "in flight: the attempt under way counts, the rest follows it"},
		{r.Kept, "kept: their destination is held (release --destination)"},
		{r.Skipped, "left as they were: there was nothing to do"},
		{r.Gone, "ended, or were changed by others, before the command reached them"},
	} {
		if x.n > 0 {
			fmt.Fprintf(w, "%d %s\n", x.n, x.text)
		}
	}
}
