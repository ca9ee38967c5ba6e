package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"mailout/internal/config"
	"mailout/internal/daemon"
	"mailout/internal/doctor"
	"mailout/internal/warmup"
)

type doctorCmd struct {
	Watch   bool          `help:"Repeat the checks and report what changes, until interrupted."`
	JSON    bool          `name:"json" help:"One JSON object; with --watch one a line for each change."`
	Only    []string      `placeholder:"ID" help:"Only these checks, such as address.record, or all of a kind, such as spf."`
	Source  []string      `placeholder:"IP" help:"Only this source address of the machine."`
	Offline bool          `help:"Ask nothing of the network."`
	Timeout time.Duration `default:"20s" help:"Most time for the checks; what has not ended by then is unknown."`
}

// Run examines this machine as the configuration describes it. It works
// without a daemon; one that runs is asked what receivers have told it.
func (cmd *doctorCmd) Run(g *globals) error {
	c, err := examined(g)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	d := &examination{
		cmd: cmd, out: g.Stdout, progress: g.Stderr, id: daemon.Identity(c), clock: time.Now, path: config.Path(g.Config),
		interval: c.Identity.Interval, listsInterval: c.Identity.ListsInterval,
		world: daemon.ThroughProxies(doctor.SystemWorld(func() []doctor.Learned { return learned(ctx, c.HTTP.Socket) }), func() []config.Source { return c.Sources }),
		more: func() []doctor.Check {
			return append(daemon.SourceChecks(ctx, c, cmd.Offline), warmupChecks(ctx, c)...)
		},
	}
	if err := d.check(); err != nil {
		return err
	}
	if cmd.Watch {
		return d.watch(ctx)
	}
	return d.once(ctx)
}

// examined loads the configuration, and says how to make one where there is
// none.
func examined(g *globals) (*config.Config, error) {
	path := config.Path(g.Config)
	c, err := config.Load(path)
	if errors.Is(err, fs.ErrNotExist) && onlyMissing(err) {
		return nil, fail(exitConfig, "there is no configuration at %s, so nothing says under which name to examine this machine: run \"mailout setup\", which asks for what is needed and examines it, or name another file with --config", path)
	}
	return c, configError(err)
}

// onlyMissing tells a missing configuration file from a file that it names.
func onlyMissing(err error) bool {
	var all config.Errors
	return errors.As(err, &all) && len(all) == 1 && all[0].Key == "file"
}

// examination is one run of the command.
type examination struct {
	cmd                     *doctorCmd
	out, progress           io.Writer
	id                      doctor.Identity
	world                   doctor.World
	clock                   func() time.Time
	interval, listsInterval time.Duration
	path                    string                // of the configuration
	sources                 []netip.Addr          // of --source
	more                    func() []doctor.Check // findings beside the examination's; nil: none
}

// check refuses flags that would examine nothing.
func (d *examination) check() error {
	if d.cmd.Timeout <= 0 {
		return fail(exitUsage, "--timeout %s is no time to examine anything in (write for example 20s)", d.cmd.Timeout)
	}
	for _, only := range d.cmd.Only {
		if !slices.ContainsFunc(checkIDs(), func(id string) bool { return id == only || strings.HasPrefix(id, only+".") }) {
			return fail(exitUsage, "--only %s: there is no such check (there are %s)", only, strings.Join(checkIDs(), ", "))
		}
	}
	if d.cmd.Only != nil && len(d.cmd.Only) == 0 {
		return fail(exitUsage, "--only names no check (write for example address.record)")
	}
	if d.cmd.Source == nil {
		return nil
	}
	if len(d.cmd.Source) == 0 {
		return fail(exitUsage, "--source names no address (write for example 192.0.2.10)")
	}
	own := d.ownAddresses()
	for _, text := range d.cmd.Source {
		s, err := netip.ParseAddr(text)
		if err != nil {
			return fail(exitUsage, "--source: %q is not an IP address (write for example \"192.0.2.10\")", text)
		}
		if !slices.Contains(own, s.Unmap()) {
			return fail(exitUsage, "--source %s: mail does not go out from it, but from %s", s, namedAddresses(own))
		}
		d.sources = append(d.sources, s.Unmap())
	}
	return nil
}

// namedAddresses says which addresses there are.
func namedAddresses(own []netip.Addr) string {
	if len(own) == 0 {
		return "no address"
	}
	names := make([]string, len(own))
	for i, a := range own {
		names[i] = a.String()
	}
	return strings.Join(names, ", ")
}

// ownAddresses are those of [[source]]; without any, those that traffic leaves
// from. Without delivery.ipv6 those of IPv6 are not used.
func (d *examination) ownAddresses() []netip.Addr {
	var own []netip.Addr
	for _, s := range d.id.Sources {
		own = append(own, s.IP)
	}
	for _, v6 := range []bool{false, true} {
		if a, err := d.world.Outgoing(context.Background(), v6); err == nil && len(d.id.Sources) == 0 {
			own = append(own, a)
		}
	}
	return slices.DeleteFunc(own, func(a netip.Addr) bool { return a.Is6() && !d.id.IPv6 })
}

func checkIDs() []string {
	var ids []string
	for _, e := range doctor.IDs {
		ids = append(ids, e.ID)
	}
	return append(ids, daemon.SourceID, daemon.WarmupID)
}

func (d *examination) options(only []string) doctor.Options {
	return doctor.Options{Only: only, Sources: d.sources, Offline: d.cmd.Offline, Timeout: d.cmd.Timeout}
}

// examine makes the checks, and completes the commands that mend something:
// they must change the file that was examined.
func (d *examination) examine(ctx context.Context, only []string) *doctor.Report {
	report := doctor.Examine(ctx, d.id, d.world, d.options(only))
	if d.more != nil && (len(only) == 0 || slices.Contains(only, daemon.WarmupID) || slices.Contains(only, daemon.SourceID)) {
		report = report.With(slices.DeleteFunc(d.ofSources(d.more()), func(c doctor.Check) bool {
			return len(only) > 0 && !slices.Contains(only, c.ID)
		})...)
	}
	for i := range report.Checks {
		if f := report.Checks[i].Fix; f != nil && strings.HasPrefix(f.Command, "mailout ") {
			whole := *f // several checks may share one
			whole.Command += configFlag(d.path)
			report.Checks[i].Fix = &whole
		}
	}
	return report
}

// ofSources are the findings about the sources of --source.
func (d *examination) ofSources(checks []doctor.Check) []doctor.Check {
	return slices.DeleteFunc(checks, func(c doctor.Check) bool {
		return len(d.sources) > 0 && !slices.ContainsFunc(d.sources, func(a netip.Addr) bool { return a.String() == c.Subject })
	})
}

// warmupChecks tells of the sources that are being warmed up: what the daemon
// knows of them, else what the file says.
func warmupChecks(ctx context.Context, c *config.Config) []doctor.Check {
	if !slices.ContainsFunc(c.Sources, func(s config.Source) bool { return !s.Warmup.Start.IsZero() }) {
		return nil
	}
	told := askDaemon(ctx, c.HTTP.Socket)
	return daemon.WarmupChecks(c, told.Warmup, told.Status != "")
}

// configFlag is what a command line needs to find the configuration at a path;
// nothing where it is looked for anyway.
func configFlag(path string) string {
	if path == defaultConfig {
		return ""
	}
	return " --config " + path
}

// once examines, prints, and ends with the examination's status.
func (d *examination) once(ctx context.Context) error {
	done := d.showProgress()
	report := d.examine(ctx, d.cmd.Only)
	done()
	if ctx.Err() != nil {
		return fail(exitTemporary, "interrupted") // 1 and 2 say how the machine is
	}
	if err := d.print(report); err != nil {
		return err
	}
	if status := report.ExitStatus(); status != 0 {
		return &exitError{Status: status}
	}
	return nil
}

func (d *examination) print(report *doctor.Report) error {
	if d.cmd.JSON {
		return writeJSON(d.out, report)
	}
	_, err := io.WriteString(d.out, newDoctorPrinter(d.out).report(report))
	return err
}

// writeJSON writes one value on one line, angle brackets as they are.
func writeJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fail(exitSoftware, "%v", err)
	}
	_, err := w.Write(plainJSON(b.Bytes()))
	return err
}

// plainJSON escapes DEL and the control characters of U+0080 to U+009F, which
// JSON lets stand and terminals obey: texts from DNS are others'.
func plainJSON(b []byte) []byte {
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] == 0x7f:
			b = slices.Replace(b, i, i+1, []byte(`\u007f`)...)
		case b[i] == 0xc2 && i+1 < len(b) && b[i+1] < 0xa0:
			b = slices.Replace(b, i, i+2, fmt.Appendf(nil, `\u%04x`, b[i+1])...)
		}
	}
	return b
}

// showProgress says on a terminal what takes the time.
func (d *examination) showProgress() (done func()) {
	if !onTerminal(d.progress) || d.cmd.JSON {
		return func() {}
	}
	fmt.Fprintf(d.progress, "examining, for at most %s …", d.cmd.Timeout)
	return func() { fmt.Fprint(d.progress, "\r\x1b[K") }
}

// learnedLimit bounds the wait for a daemon, and learnedSize its answer.
const (
	learnedLimit = 2 * time.Second
	learnedSize  = 1 << 20
)

// told is what only the daemon knows.
type told struct {
	Status  doctor.Status    `json:"status"` // empty: it was not reached
	Learned []doctor.Learned `json:"learned"`
	Warmup  []warmup.State   `json:"warmup"`
}

// askDaemon asks the running daemon what receivers have said of our address, and
// how far its sources are. No daemon, or one that cannot tell, is no reason to
// complain: the examination has other ways to find out.
func askDaemon(ctx context.Context, socket string) (t told) {
	ctx, cancel := context.WithTimeout(ctx, learnedLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, socketHost+"/v1/doctor", nil)
	if err != nil {
		return told{}
	}
	resp, err := socketClient(socket).Do(req)
	if err != nil {
		return told{}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || json.NewDecoder(io.LimitReader(resp.Body, learnedSize)).Decode(&t) != nil {
		return told{}
	}
	return t
}

func learned(ctx context.Context, socket string) []doctor.Learned {
	return askDaemon(ctx, socket).Learned
}
