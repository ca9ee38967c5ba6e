package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"mailout/internal/config"
	"mailout/internal/daemon"
	"mailout/internal/doctor"
	"mailout/internal/setup"
)

// setupCmd has a flag for each answer; nil is one to be asked for.
type setupCmd struct {
	Yes     bool `short:"y" help:"Ask nothing: take what the flags say, and else what Enter would give."`
	Offline bool `help:"Ask nothing of the network."`

	Router    *string `placeholder:"HOST" help:"Mail router, HOST or HOST:PORT; \"none\" delivers directly." group:"Answers"`
	RouterUse *string `placeholder:"USE" help:"Which mail goes to it: always, unresolved, fallback." group:"Answers"`
	RouterTLS *string `name:"router-tls" placeholder:"TLS" help:"Encryption to it: opportunistic, required, implicit, none." group:"Answers"`

	DNS          *string `name:"dns" placeholder:"IP,…" help:"DNS servers; \"system\" takes the system's." group:"Answers"`
	OutsideNames *string `placeholder:"NAME,…" help:"Outside names that DNS servers must know." group:"Answers"`
	Hostname     *string `placeholder:"NAME" help:"Fully qualified name of this machine, as other servers see it." group:"Answers"`
	PublicIP     *string `name:"public-ip" placeholder:"IP,…" help:"Addresses that others see; \"auto\" finds them out." group:"Answers"`
	Reflectors   *string `placeholder:"SERVICE,…" help:"Services that tell the visible address; \"none\" for none." group:"Answers"`
	Probes       *string `placeholder:"HOST,…" help:"Mail servers to try port 25 at; \"none\" for none." group:"Answers"`

	DKIMDomain    *string `name:"dkim-domain" placeholder:"DOMAIN" help:"Domain to make a DKIM key for; \"none\" makes none." group:"Answers"`
	DKIMSelector  *string `name:"dkim-selector" placeholder:"SELECTOR" help:"Selector of the key; by default the year." group:"Answers"`
	DKIMAlgorithm *string `name:"dkim-algorithm" placeholder:"KIND" help:"Kind of the key: rsa, ed25519 (\"mailout dkim new\" adds a second one)." group:"Answers"`

	Postmaster *string `placeholder:"MAILBOX" help:"Mailbox of whoever looks after this machine." group:"Answers"`
	Listen     *string `placeholder:"IP:PORT" help:"Where applications hand mail over by SMTP; \"none\" for nowhere." group:"Answers"`
	Trusted    *string `placeholder:"NET,…" help:"Networks whose machines may send to anybody." group:"Answers"`
	Spool      *string `placeholder:"DIR" help:"Directory for accepted mail." group:"Answers"`
}

// answers are the flags that were given.
func (cmd *setupCmd) answers() setup.Answers {
	a := setup.Answers{}
	for flag, v := range map[string]*string{
		setup.Router: cmd.Router, setup.RouterUse: cmd.RouterUse, setup.RouterTLS: cmd.RouterTLS, setup.Servers: cmd.DNS,
		setup.OutsideNames: cmd.OutsideNames, setup.Hostname: cmd.Hostname, setup.PublicIP: cmd.PublicIP,
		setup.Reflectors: cmd.Reflectors, setup.Probes: cmd.Probes, setup.DKIMDomain: cmd.DKIMDomain,
		setup.DKIMSelector: cmd.DKIMSelector, setup.DKIMKind: cmd.DKIMAlgorithm, setup.Postmaster: cmd.Postmaster,
		setup.Listen: cmd.Listen, setup.Trusted: cmd.Trusted, setup.Spool: cmd.Spool,
	} {
		if v != nil {
			a[flag] = *v
		}
	}
	if cmd.Spool != nil {
		a[setup.Spool] = fromHere(*cmd.Spool)
	}
	return a
}

// fromHere makes a directory of the command line absolute: there it is meant from
// the working directory, in the file from the directory of the file.
func fromHere(dir string) string {
	if dir == "" || strings.Contains(dir, "://") { // refused with a reason
		return dir
	}
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return dir
}

// Run goes through the steps, writes the configuration, and examines what came
// of it.
func (cmd *setupCmd) Run(g *globals) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	var asker setup.Asker
	if !cmd.Yes {
		terminal, err := openTerminal(g)
		if err != nil {
			return err
		}
		defer terminal.close()
		asker = terminal.asker()
	}
	path := config.Path(g.Config)
	result, err := setup.Run(ctx, setup.Options{
		Path: path, Answers: cmd.answers(), Asker: asker, Out: g.Stdout, Style: setupStyle(newDoctorPrinter(g.Stdout)),
		Offline: cmd.Offline, World: doctor.SystemWorld(nil), Identity: daemon.Identity, Names: systemNames, Now: time.Now,
	})
	if err != nil {
		return setupError(err)
	}
	return cmd.examine(ctx, g, path, result)
}

// setupError gives an error its status: 64 for an impossible answer, 75 for an
// interruption, 77 where something is not allowed, 78 for a wrong file.
func setupError(err error) error {
	var answer *setup.AnswerError
	var errs config.Errors
	switch {
	case errors.Is(err, setup.ErrStopped):
		return fail(exitTemporary, "%v", err)
	case errors.As(err, &answer):
		return fail(exitUsage, "%s", strings.ReplaceAll(err.Error(), "\n", "\nmailout: "))
	case errors.Is(err, fs.ErrPermission):
		return fail(exitNoPermission, "%v", err)
	case errors.As(err, &errs):
		return configError(err)
	}
	return fail(exitIO, "%v", err)
}

// examine ends the set-up with what doctor says. Its findings are no failure of
// the set-up: the configuration is there.
func (cmd *setupCmd) examine(ctx context.Context, g *globals, path string, r *setup.Result) error {
	c, err := config.Load(path)
	if err != nil {
		return configError(err)
	}
	p := newDoctorPrinter(g.Stdout)
	fmt.Fprintf(g.Stdout, "\n%s\n", p.paint(sgrBold, "What mailout doctor says"))
	d := &examination{
		cmd: &doctorCmd{Offline: cmd.Offline, Timeout: doctor.DefaultTimeout}, out: g.Stdout, progress: g.Stderr, id: daemon.Identity(c),
		world: doctor.SystemWorld(func() []doctor.Learned { return learned(ctx, c.HTTP.Socket) }), clock: time.Now, path: path,
	}
	var exit *exitError
	err = d.once(ctx)
	switch {
	case ctx.Err() != nil:
		return fail(exitTemporary, "the examination was interrupted; the configuration is written")
	case err != nil && (!errors.As(err, &exit) || exit.Err != nil):
		return err
	}
	_, err = fmt.Fprintf(g.Stdout, "\n%s", p.wrap("", "", nextSteps(c, path, r)))
	return err
}

// nextSteps says how the configuration comes into force.
func nextSteps(c *config.Config, path string, r *setup.Result) string {
	flag := configFlag(path)
	more := fmt.Sprintf(" \"mailout records%s\" shows what to publish, and \"mailout doctor%s\" examines again.", flag, flag)
	switch _, err := os.Stat(c.HTTP.Socket); {
	case !r.Changed:
		return "Nothing was changed." + more
	case err == nil:
		return fmt.Sprintf("If the daemon runs, \"mailout config reload%s\" tells it.", flag) + more
	}
	return fmt.Sprintf("Start it with \"mailout serve%s\".", flag) + more
}

// setupStyle lays out as doctor does.
func setupStyle(p doctorPrinter) setup.Style {
	return setup.Style{
		Heading: func(text string) string { return p.paint(sgrBold, text) + "\n" },
		Text:    func(text string) string { return p.wrap("  ", "  ", clean(text)) },
		Check:   p.check,
		Plan:    p.records,
	}
}

// hostsFile is where systems keep the full name beside the short one.
const hostsFile = "/etc/hosts"

// systemNames are what the system calls this machine: its host name if it is
// full, and the full names beside it in the hosts file.
func systemNames() []string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return nil
	}
	out := []string{name}
	text, err := os.ReadFile(filepath.FromSlash(hostsFile))
	if err != nil {
		return out
	}
	return append(out, namesBeside(string(text), name)...)
}

// namesBeside are the other names on the lines of a hosts file that have a name.
func namesBeside(hosts, name string) []string {
	var out []string
	for line := range strings.Lines(hosts) {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		var others []string
		found := false
		for _, n := range f[1:] {
			if strings.EqualFold(n, name) {
				found = true
			} else {
				others = append(others, n)
			}
		}
		if found {
			out = append(out, others...)
		}
	}
	return out
}
