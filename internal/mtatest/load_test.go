package mtatest

import (
	"context"
	"testing"
)

func TestLoadOverTCP(t *testing.T) {
	t.Parallel()
	m := NewMX(MXConfig{Discard: true, Remember: "X-Id", Rules: []Rule{
		{Stage: StageDot, Skip: 50, First: 1, Action: Action{Drop: true, Keep: true}},
		{Stage: StageMail, Skip: 70, First: 1, Action: Action{Reply: "421 4.3.2 go away"}},
	}})
	defer m.Stop()
	addr, err := m.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	load := &Load{Addr: addr.String(), Sessions: 4, Messages: 500, PerSession: 20, Reconnect: true}
	res := load.Run(context.Background())
	seen := m.Seen()
	for id := range res.Accepted {
		if seen[id] != 1 {
			t.Errorf("%s was accepted and came %d times", id, seen[id])
		}
	}
	if len(res.Unknown) != 1 || seen[res.Unknown[0]] != 1 || len(res.Accepted) != 498 {
		t.Errorf("%d accepted, unknown %v, broken %d, refused %d, first %v", len(res.Accepted), res.Unknown, res.Broken, res.Refused, res.First)
	}
	if v := m.Violations(); len(v) > 0 {
		t.Errorf("violations %q", v)
	}
}

func BenchmarkMX(b *testing.B) {
	m := NewMX(MXConfig{Discard: true, Remember: "X-Id"})
	defer m.Stop()
	addr, err := m.Listen("127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	res := (&Load{Addr: addr.String(), Sessions: 20, Messages: b.N, PerSession: 1000}).Run(context.Background())
	if len(res.Accepted) != b.N {
		b.Fatal(res.First)
	}
}
