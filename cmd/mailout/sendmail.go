package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"mailout/internal/config"
	"mailout/internal/queue"
)

// sendmailCmd stands in the list of commands; its arguments are sendmail(8)'s
// and are read by hand (sendmail_options.go).
type sendmailCmd struct {
	Args []string `arg:"" optional:"" help:"Options and recipients as sendmail(8) has them; see docs/sendmail.md."`
}

// Run executes one command line of sendmail.
func (c *sendmailCmd) Run(g *globals) error { return runSendmail("sendmail", c.Args, g) }

// sendmailNames are the names that the program may be invoked by instead of
// "mailout sendmail", each with the mode it begins in.
var sendmailNames = map[string]byte{"sendmail": modeDeliver, "send-mail": modeDeliver, "mailq": modeList, "newaliases": modeAliases}

// invokedName gives the sendmail name in argv[0], "" for any other.
func invokedName(argv0 string) string {
	name := strings.TrimSuffix(filepath.Base(argv0), ".exe")
	if _, known := sendmailNames[name]; known {
		return name
	}
	return ""
}

// runInvoked is run for a program that was invoked by one of sendmailNames.
func runInvoked(name string, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	path := os.Getenv("MAILOUT_CONFIG")
	if path == "" {
		path = defaultConfig
	}
	return report(runSendmail(name, args, &globals{Config: path, Stdin: stdin, Stdout: stdout, Stderr: stderr}), stderr)
}

func runSendmail(name string, args []string, g *globals) error {
	o, err := parseSendmail(sendmailNames[name], args)
	if err != nil {
		return fail(exitUsage, "%s: %v (docs/sendmail.md lists the options)", name, err)
	}
	if o.config != "" {
		g.Config = o.config
	}
	if o.verbose {
		for _, note := range o.notes {
			fmt.Fprintln(g.Stderr, "mailout: "+name+": "+note)
		}
	}
	switch o.mode {
	case modeAliases: // there are no aliases, so none are out of date
		return nil
	case modeList:
		return listMail(g)
	case modeRun:
		return runQueue(o, g)
	}
	cfg, err := config.ForSender(config.Path(g.Config))
	if err != nil {
		return configError(err)
	}
	// Nobody may read what we say; that must not end us between the daemon's
	// acceptance and our status.
	signal.Ignore(syscall.SIGPIPE)
	s := &sendmail{globals: g, options: o, config: cfg, account: currentUser(), answer: answerTime}
	if o.mode == modeSMTP {
		return s.speakSMTP()
	}
	return s.deliver()
}

// runQueue is -q: what waits for its time is tried now. -q30m asks a daemon to
// run its queue now and then, which ours does.
func runQueue(o *sendmailOptions, g *globals) error {
	q, err := runSelection(o)
	if err != nil {
		return err
	}
	if q == nil {
		body, err := ask(g, "/healthz", nil)
		if err != nil {
			return err
		}
		return body.Close()
	}
	d, err := connect(g)
	if err != nil {
		return err
	}
	q.Set("reason", "sendmail -q")
	body, err := d.post("/v1/deliveries/"+queue.VerbRetry.String(), q, "application/x-ndjson")
	if err != nil {
		return controlUsage(err)
	}
	defer body.Close()
	result, err := follow(io.Discard, queue.VerbRetry, body)
	if err != nil {
		return err
	}
	if o.verbose {
		printResult(g.Stderr, queue.VerbRetry, &result)
	}
	return nil
}

// runSelection is what -q is about; nil for a time. sendmail looks for a part
// of an address; here it is a whole one, or of -qR a domain.
func runSelection(o *sendmailOptions) (url.Values, error) {
	if o.run == "" {
		return url.Values{"all": {"true"}}, nil
	}
	name, known := map[byte]string{'I': "id", 'R': "recipient", 'S': "sender"}[o.run[0]]
	if !known {
		return nil, nil
	}
	value := o.run[1:]
	if value == "" && len(o.recipients) == 1 {
		value = o.recipients[0]
	}
	if value == "" {
		return nil, fail(exitUsage, "-q%s needs a value", o.run)
	}
	if name == "recipient" && !strings.Contains(value, "@") {
		name = "destination"
	}
	return url.Values{name: {value}}, nil
}

// sendmail is one run of the command.
type sendmail struct {
	*globals
	options *sendmailOptions
	config  *config.Config
	account localUser
	answer  time.Duration // answerTime
}

// deliver reads one message from standard input and hands it over.
func (s *sendmail) deliver() error {
	if !s.options.fromHeader && len(s.options.recipients) == 0 {
		return fail(exitUsage, "no recipients: name them, or use -t")
	}
	content := newKept(s.config.Limits.MessageSize)
	defer content.Close()
	var in io.Reader = s.Stdin
	if !s.options.ignoreDots {
		in = newDotEnd(in)
	}
	if _, err := io.Copy(content, in); err != nil {
		if errors.Is(err, errTooLarge) {
			return fail(exitData, "the message is larger than %d octets ([limits] message_size)", s.config.Limits.MessageSize)
		}
		return fail(exitIO, "the message could not be read: %v", err)
	}
	request, whole, err := s.compose(content)
	if err != nil {
		return err
	}
	return s.handOver(request, whole)
}
