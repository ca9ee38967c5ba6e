// Command scale measures how mailout fares with much mail: a spool of N
// deferred messages over N/10 destinations, ten thousand tar pits beside one
// fast destination, and a mailing beside single messages. bench/SCALE.md tells
// how to read it and holds figures.
//
// It fills a spool directly through internal/spool/pebble, runs the real
// binary on it, and is the world around it: DNS, receivers and clients, on
// loopback. It must not be imported, and it judges nothing. Its goroutines end
// with the part that they belong to; the processes that it starts are ended by
// their ids.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

type options struct {
	sizes   []int
	seconds time.Duration // of each load
	rest    time.Duration // from the start to the look at memory at rest
	tarpits int
	mailing int
	dir     string
	binary  string
	overdue bool
	keep    string // a filled spool that stays
}

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var o options
	n := flag.String("n", "0,1000000", "numbers of deferred messages, with commas between; 0 is the empty spool to compare with")
	parts := flag.String("parts", "backlog,tarpits,mailing", "what to measure: backlog, tarpits, mailing, control, history; fill only fills the spool of -keep")
	flag.DurationVar(&o.seconds, "load", 15*time.Second, "length of each load")
	flag.DurationVar(&o.rest, "rest", 30*time.Second, "from the start to the look at memory at rest")
	flag.IntVar(&o.tarpits, "tarpits", 10_000, "number of tar pits")
	flag.IntVar(&o.mailing, "mailing", 100_000, "messages of the mailing")
	flag.BoolVar(&o.overdue, "overdue", false, "the deferred messages are due already, as after a long stop; their receiver takes them")
	flag.StringVar(&o.keep, "keep", "", "directory of a spool that stays: filled when it is not there, with the first number of -n, else used as it is; for the part backlog. The part fill only fills it")
	flag.StringVar(&o.dir, "dir", "", "directory of the spools; default a new temporary one")
	flag.StringVar(&o.binary, "binary", "", "the mailout to measure; default the one of this tree, built now")
	flag.Parse()
	for _, word := range strings.Split(*n, ",") {
		size, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil {
			return fmt.Errorf("-n %s: %w", *n, err)
		}
		o.sizes = append(o.sizes, size)
	}
	dir, err := os.MkdirTemp(o.dir, "scale")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	o.dir = dir
	if o.binary == "" {
		o.binary = filepath.Join(dir, "mailout")
		if err := build(ctx, o.binary); err != nil {
			return err
		}
	}
	for _, part := range strings.Split(*parts, ",") {
		measure := map[string]func(context.Context, options) error{
			"backlog": backlogs, "tarpits": tarpits, "mailing": mailing, "control": controls, "history": histories, "fill": fillOnly,
		}[part]
		if measure == nil {
			return fmt.Errorf("-parts: %q is none of backlog, tarpits, mailing, control, history, fill", part)
		}
		if err := measure(ctx, o); err != nil {
			return fmt.Errorf("%s: %w", part, err)
		}
	}
	return nil
}

func build(ctx context.Context, path string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, "mailout/cmd/mailout")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building mailout: %w\n%s", err, out)
	}
	return nil
}
