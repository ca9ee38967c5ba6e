// Command bench measures how fast mailout and its peers relay mail on this
// machine, and what that costs them. bench/run.sh builds it and runs it inside
// namespaces where the peers' files are in place (bench/inside.sh); it is no
// use outside.
//
// It is the receiving side of every case (mtatest.MX) and starts, one at a
// time, each relay, and smtp-source or itself as the source ("bench load"). It
// decides nothing about mail. Its goroutines are the sampler of a measurement,
// ended with it, and those of the receiving server.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	var err error
	if len(os.Args) > 1 && os.Args[1] == "load" {
		err = runLoad(ctx, os.Args[2:])
	} else {
		err = run(ctx, os.Args[1:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	rounds  int
	n       int
	cases   []benchCase
	peers   []peer
	out     string
	profile string
}

func parse(args []string) (*options, error) {
	var o options
	var cases, peers string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.IntVar(&o.rounds, "rounds", 5, "rounds; the table has their medians")
	f.IntVar(&o.n, "n", 20000, "messages of 4 KB for the fastest relays; slower ones get a part of it")
	f.StringVar(&cases, "cases", "a b c d e", "cases")
	f.StringVar(&peers, "peers", "", "relays; empty for all")
	f.StringVar(&o.out, "out", "RESULTS.md", "where the results go")
	f.StringVar(&o.profile, "profile", "", "kinds of profiles, when the relay profiled runs")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	for _, id := range strings.Fields(cases) {
		i := slices.IndexFunc(allCases, func(c benchCase) bool { return c.id == id })
		if i < 0 {
			return nil, fmt.Errorf("no case %q", id)
		}
		o.cases = append(o.cases, allCases[i])
	}
	for _, name := range strings.Fields(peers) {
		if !slices.ContainsFunc(allPeers, func(p peer) bool { return p.name == name }) {
			return nil, fmt.Errorf("no relay %q", name)
		}
	}
	for _, p := range allPeers {
		if peers == "" && !p.onDemand || slices.Contains(strings.Fields(peers), p.name) {
			o.peers = append(o.peers, p)
		}
	}
	if len(o.cases) == 0 || len(o.peers) == 0 || o.rounds < 1 || o.n < 1 {
		return nil, errors.New("nothing to measure")
	}
	return &o, nil
}

// run measures everything and writes the results.
func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	b, err := newBench(o)
	if err != nil {
		return err
	}
	defer b.close()
	started := time.Now()
	b.facts = gatherFacts(ctx, o.peers)
	for round := range o.rounds {
		if o.profile == "" {
			if err := b.measureSync(ctx); err != nil {
				return err
			}
		}
		for _, c := range o.cases {
			for i := range o.peers {
				p := o.peers[(i+round)%len(o.peers)] // another one begins each round
				b.measure(ctx, round, c, p)
				if ctx.Err() != nil {
					return ctx.Err()
				}
			}
		}
	}
	b.took = time.Since(started)
	text := b.report()
	fmt.Print("\n", text)
	if err := os.WriteFile(o.out, []byte(text), 0o644); err != nil {
		return err
	}
	return b.verdict()
}
