package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"mailout/internal/config"
)

// archive is a journal of so many octets, that notes what is done to it.
type archive struct {
	octets int64
	err    error
	done   []string
}

var archiveTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func (a *archive) Prune(_ context.Context, before time.Time) error {
	a.done = append(a.done, "prune "+archiveTime.Sub(before).String())
	return a.err
}

func (a *archive) JournalOver(_ context.Context, bound int64) (time.Time, bool, error) {
	a.done = append(a.done, fmt.Sprint("over ", bound))
	return archiveTime.Add(-time.Hour), a.octets > bound, a.err
}

func (a *archive) CompactJournal(context.Context) error {
	a.done = append(a.done, "compact")
	return a.err
}

func TestRetention(t *testing.T) {
	t.Parallel()
	day := 24 * time.Hour
	for _, v := range []struct {
		name   string
		octets int64
		c      config.Journal
		err    error
		want   string
		logs   bool
	}{
		{"by time alone", 1 << 40, config.Journal{Keep: day}, nil, "prune 24h0m0s", false},
		{"small enough", 100, config.Journal{Keep: day, Size: 100}, nil, "prune 24h0m0s, over 100", false},
		{"too large", 101, config.Journal{Keep: day, Size: 100}, nil, "prune 24h0m0s, over 100, prune 1h0m0s, compact", true},
		{"a disk that fails", 101, config.Journal{Keep: day, Size: 100}, errors.New("no"), "prune 24h0m0s", true},
	} {
		var log strings.Builder
		a := &archive{octets: v.octets, err: v.err}
		retain(t.Context(), a, v.c, archiveTime, slog.New(slog.NewTextHandler(&log, nil)))
		if got := strings.Join(a.done, ", "); got != v.want || (log.Len() > 0) != v.logs {
			t.Errorf("%s: %s, want %s; log %q", v.name, got, v.want, &log)
		}
	}
}
