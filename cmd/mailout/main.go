// Command mailout is a mail transfer agent for mail that applications
// generate: it takes messages, makes them durable and delivers them directly
// to the recipients' mail servers.
//
// This package holds the command line, one file a command. A command parses
// its flags and calls: serve builds the daemon, demo and sink run a world of
// their own, and the others ask the running daemon over its Unix socket. It
// must not decide anything about mail. It starts no goroutine that outlives a
// command.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"
)

// version is set at build time with -ldflags "-X main.version=…".
var version = "devel"

// cli is the whole command line (docs/design.md, section 8).
type cli struct {
	Config      string           `help:"Configuration file." env:"MAILOUT_CONFIG" default:"${config}" placeholder:"FILE" type:"path"`
	ShowVersion kong.VersionFlag `name:"version" help:"Print the version."`

	Setup    setupCmd    `cmd:"" help:"Guided set-up: asks, looks, writes the configuration, examines it."`
	Serve    serveCmd    `cmd:"" help:"Run the daemon in the foreground."`
	Demo     demoCmd     `cmd:"" help:"Show the whole road against a small world on loopback."`
	Doctor   doctorCmd   `cmd:"" help:"Check everything that direct delivery needs; exit status 0 fine, 1 warnings, 2 failures."`
	Records  recordsCmd  `cmd:"" help:"The exact DNS records to publish, and whether they are."`
	Send     sendCmd     `cmd:"" help:"Hand over a MIME file; prints the message's ID."`
	Compose  composeCmd  `cmd:"" help:"Make a message of texts and files, and send it; prints the message's ID."`
	Sendm    sendmailCmd `cmd:"" name:"sendmail" passthrough:"" help:"Send as sendmail(8) does; also by the names sendmail, mailq and newaliases."`
	Queue    queueCmd    `cmd:"" help:"Look at what waits for delivery, hold, release, retry, cancel or reroute it."`
	Trace    traceCmd    `cmd:"" help:"What happened to a message or to an address, attempt by attempt."`
	Explain  explainCmd  `cmd:"" help:"How mail for an address would be delivered, and why."`
	Suppress suppressCmd `cmd:"" help:"Addresses that get no mail: look, add, remove, import, export."`
	DKIM     dkimCmd     `cmd:"" name:"dkim" help:"DKIM keys: make, list, print their records, replace them."`
	Lint     lintCmd     `cmd:"" help:"What receivers will dislike in a message; exit 0 nothing, 1 warnings, 2 errors."`
	Classify classifyCmd `cmd:"" help:"What replies mean: class and action for each line of standard input."`
	Conf     configCmd   `cmd:"" name:"config" help:"Check, show and change the configuration."`
	Webhook  webhookCmd  `cmd:"" help:"Try a webhook."`
	Sink     sinkCmd     `cmd:"" help:"A receiving server for tests: accepts, refuses, delays and drops as told."`
	Version  versionCmd  `cmd:"" help:"Print the version."`
}

func main() {
	if name := invokedName(os.Args[0]); name != "" {
		os.Exit(runInvoked(name, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run executes one command line and gives the exit status of sysexits(3).
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var c cli
	status := -1
	parser, err := kong.New(&c,
		kong.Name("mailout"),
		kong.Description("A mail transfer agent for mail that applications generate."),
		kong.Vars{"config": defaultConfig, "version": versionLine()},
		kong.Writers(stdout, stderr),
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Exit(func(code int) { status = code }),
	)
	if err != nil {
		fmt.Fprintln(stderr, "mailout:", err)
		return exitSoftware
	}
	ctx, err := parser.Parse(args)
	if status >= 0 { // --help or --version printed and wants to end
		return status
	}
	if err != nil {
		fmt.Fprintf(stderr, "mailout: %v\nTry \"mailout --help\".\n", err)
		return exitUsage
	}
	err = ctx.Run(&globals{Config: c.Config, Stdin: stdin, Stdout: stdout, Stderr: stderr})
	return report(err, stderr)
}

// report prints an error once and gives its exit status.
func report(err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	var exit *exitError
	if !errors.As(err, &exit) {
		fmt.Fprintln(stderr, "mailout:", err)
		return exitSoftware
	}
	if exit.Err != nil {
		fmt.Fprintln(stderr, exit.Err)
	}
	return exit.Status
}
