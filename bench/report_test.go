package main

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 3, 2}, 2.5}} {
		if got := median(c.in); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.in, got, c.want)
		}
	}
}

// TestReport sees that a failed round is told and its figures are left out.
func TestReport(t *testing.T) {
	t.Parallel()
	o, err := parse([]string{"-cases", "a", "-peers", "mailout postfix nostore"})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{opt: o, facts: &facts{cores: 2}, results: map[string][]*result{}}
	good := func(rate float64) *result {
		return &result{sent: 1000, arrived: 1000, unique: 1000, octets: 4_000_000, rate: rate, cpu: time.Second, written: 5_000_000, disk: 6_000_000}
	}
	c := o.cases[0]
	b.results[key(c, o.peers[0])] = []*result{good(6000), good(6200), good(5000)}
	b.results[key(c, o.peers[1])] = []*result{good(600), {sent: 1000, arrived: 999, unique: 999, rate: 9999, err: errors.New("1000 sent, 999 arrived")}}
	b.results[key(c, o.peers[2])] = []*result{good(10000)}
	text := b.report()
	for _, want := range []string{
		"| a | 6000 | 10.00 | 10.00 Postfix | 0.60 | 1.50 / 1.25 |",
		"| Postfix | 600 | 600–600 | 10.00× |", "**1 of 2**",
		"Postfix failed in 1 of 2 rounds: 1000 sent, 999 arrived",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if err := b.verdict(); err != nil {
		t.Error(err)
	}
	b.results[key(c, o.peers[0])][1].err = errors.New("doubled")
	if b.verdict() == nil {
		t.Error("a failure of mailout is none of the bench")
	}
}

// TestRecipients sees that every relay's source asks for the same mail.
func TestRecipients(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		id, peer, want string
		n              int
	}{
		{"a", "postfix", "user@one.bench.test", 7}, {"a", "chasquid", "one@alias.bench.test", 7},
		{"d", "mailout", "user@d999.bench.test", 1999}, {"c", "chasquid", "c0@alias.bench.test", 1000},
	} {
		o, err := parse([]string{"-cases", c.id, "-peers", c.peer})
		if err != nil {
			t.Fatal(err)
		}
		if got := o.cases[0].recipient(o.peers[0], c.n); got != c.want {
			t.Errorf("%s %s %d: %q, want %q", c.id, c.peer, c.n, got, c.want)
		}
	}
	if _, err := parse([]string{"-peers", "sendmail"}); err == nil {
		t.Error("a relay that does not exist was taken")
	}
}
