package config

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDurations(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"5d": 120 * time.Hour, "1h30m": 90 * time.Minute, "250ms": 250 * time.Millisecond, "1d2h3m4s5ms": 26*time.Hour + 3*time.Minute + 4*time.Second + 5*time.Millisecond,
		"0s": 0, "007s": 7 * time.Second, "106751d": 106751 * 24 * time.Hour,
	} {
		if got, ok := parseDuration(text); !ok || got != want {
			t.Errorf("%s: %v, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "5", "d", "5 d", "-5d", "+5d", "5D", "1.5h", "5us", "5m1h", "5m5m", "1h30", "106752d", "99999999999999999999s", "5d ", "１d"} {
		if got, ok := parseDuration(text); ok {
			t.Errorf("%q was read as %v", text, got)
		}
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"1B": 1, "50MB": 50e6, "64KiB": 65536, "1GiB": 1 << 30, "2KB": 2000, "0B": 0} {
		if got, ok := parseSize(text); !ok || got != want {
			t.Errorf("%s: %v, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "5", "MB", "5 MB", "-5MB", "5mb", "1.5GB", "5TB", "9999999999GB", "5MBx"} {
		if got, ok := parseSize(text); ok {
			t.Errorf("%q was read as %v", text, got)
		}
	}
}

func TestGuesses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"5 days": "5d", "1 week": "7d", "1.5 hours": "1h30m", "2 hrs 5 min": "2h5m", "90min": "1h30m", "5D": "5d", "1 h, 30 m": "1h30m",
		"5": "", "soon": "", "": "", "five days": "", "0 days": "", "9e99 days": "", "1.2.3 days": "", "0.0001 s": "",
	} {
		if got := guessDuration(text); got != want {
			t.Errorf("duration %q: %q, want %q", text, got, want)
		}
	}
	for text, want := range map[string]string{
		"50 MB": "50MB", "50mb": "50MB", "50M": "50MB", "1.5 GB": "1500MB", "1048576": "1MiB", "50 megabytes": "50MB", "2T": "2000GB", "x": "", "": "", "0": "",
	} {
		if got := guessSize(text); got != want {
			t.Errorf("size %q: %q, want %q", text, got, want)
		}
	}
}

func TestUnitsRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, int64(200*year/time.Millisecond)).Draw(t, "ms")) * time.Millisecond
		if got, ok := parseDuration(formatDuration(d)); !ok || got != d {
			t.Fatalf("%v: %s", d, formatDuration(d))
		}
		n := rapid.Int64Min(0).Draw(t, "octets")
		if got, ok := parseSize(formatSize(n)); !ok || got != n {
			t.Fatalf("%d: %s", n, formatSize(n))
		}
	})
}

func TestNearest(t *testing.T) {
	t.Parallel()
	words := []string{"hostname", "spool", "postmaster", "hosts", "port"}
	for word, want := range map[string]string{"hostnam": "hostname", "HOSTNAME": "hostname", "sopol": "spool", "hots": "hosts", "prot": "port", "": "", "x": "", "certificate": "", "post": "port"} {
		if got := nearest(word, words); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
	if got := distance("ab", "ba"); got != 1 {
		t.Error("a swap counts", got)
	}
}
