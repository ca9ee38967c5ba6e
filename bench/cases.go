package main

import (
	"context"
	"flag"
	"fmt"
	"os/exec"
	"strconv"
)

// relayAddr is where every relay listens, one at a time.
const relayAddr = "198.18.0.1:25"

// domains is how many of them the cases c and d have.
const domains = 1000

// sinkHosts is how many receiving hosts there are: 198.18.1.1 and on.
const sinkHosts = 20

// benchCase is one way of loading a relay.
type benchCase struct {
	id       string
	title    string
	sessions int     // of the source
	size     int     // of a message's content
	part     float64 // of -n
	many     string  // prefix of the thousand domains; empty: one destination
}

var allCases = []benchCase{
	{id: "a", title: "one destination, 20 sessions, 4 KB", sessions: 20, size: 4096, part: 1},
	{id: "b", title: "one destination, 100 sessions, 4 KB", sessions: 100, size: 4096, part: 1},
	{id: "c", title: "1,000 domains on one MX set, 20 sessions, 4 KB", sessions: 20, size: 4096, part: 1, many: "c"},
	{id: "d", title: "1,000 domains on 20 MXs, 20 sessions, 4 KB", sessions: 20, size: 4096, part: 1, many: "d"},
	{id: "e", title: "one destination, 20 sessions, 100 KB", sessions: 20, size: 102400, part: 0.2},
}

// count is how many messages a relay gets: enough for some seconds.
func (c benchCase) count(n int, p peer) int {
	return max(2*c.sessions, int(float64(n)*c.part*p.part))
}

// recipient of message i.
func (c benchCase) recipient(p peer, i int) string {
	user := "one"
	if c.many != "" {
		user = c.many + strconv.Itoa(i%domains)
	}
	if p.aliases {
		return user + "@alias.bench.test"
	}
	return "user@" + user + ".bench.test"
}

// source is the command that sends n messages. Postfix's smtp-source costs
// least, but knows one recipient only; with many domains it is "bench load".
// Both hand over by sessions that stay open, one message after the other.
func (c benchCase) source(ctx context.Context, p peer, n int) *exec.Cmd {
	if c.many == "" {
		return exec.CommandContext(ctx, "smtp-source", "-d", "-C", "10", "-s", strconv.Itoa(c.sessions), "-m", strconv.Itoa(n),
			"-l", strconv.Itoa(c.size), "-M", "source.bench.test", "-f", "sender@bench.test", "-t", c.recipient(p, 0), relayAddr)
	}
	return exec.CommandContext(ctx, "/proc/self/exe", "load", "-case", c.id, "-peer", p.name, "-n", strconv.Itoa(n))
}

// runLoad is the source with many domains. It fails unless every message was
// accepted.
func runLoad(ctx context.Context, args []string) error {
	var id, name string
	var n int
	f := flag.NewFlagSet("bench load", flag.ContinueOnError)
	f.StringVar(&id, "case", "c", "case")
	f.StringVar(&name, "peer", "", "relay")
	f.IntVar(&n, "n", 1000, "messages")
	if err := f.Parse(args); err != nil {
		return err
	}
	for _, c := range allCases {
		for _, p := range allPeers {
			if c.id == id && p.name == name {
				return c.load(ctx, p, n)
			}
		}
	}
	return fmt.Errorf("no case %q or relay %q", id, name)
}
