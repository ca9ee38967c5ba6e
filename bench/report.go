package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// row is a relay in one case: medians of the rounds that went well.
type row struct {
	peer              peer
	good, failed      int
	sent              int
	rate, least, most float64
	cpu               float64 // seconds a thousand messages
	memory            float64 // octets
	written, disk     float64 // octets an octet delivered
	err               error   // the last failure
}

func (b *bench) row(c benchCase, p peer) *row {
	w := &row{peer: p}
	var rate, cpu, memory, written, disk []float64
	for _, r := range b.results[key(c, p)] {
		w.sent = r.sent
		if r.err != nil {
			w.failed, w.err = w.failed+1, r.err
			continue
		}
		w.good++
		rate = append(rate, r.rate)
		cpu = append(cpu, r.cpu.Seconds()/float64(r.sent)*1000)
		memory = append(memory, float64(r.memory))
		written = append(written, float64(r.written)/float64(r.octets))
		disk = append(disk, float64(r.disk)/float64(r.octets))
	}
	if w.good > 0 {
		w.rate, w.least, w.most = median(rate), slices.Min(rate), slices.Max(rate)
		w.cpu, w.memory, w.written, w.disk = median(cpu), median(memory), median(written), median(disk)
	}
	return w
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// report is bench/RESULTS.md.
func (b *bench) report() string {
	var w strings.Builder
	f := b.facts
	fmt.Fprintf(&w, "# Results of `make bench`\n\nWritten by the bench (README.md here says what is measured and how); medians of %d rounds, relays\ntaking turns, in %s.\n\n", b.opt.rounds, b.took.Round(time.Second))
	fmt.Fprintf(&w, "- %s: %d cores of %s, %d GB of memory, Linux %s; the source, the receiving servers and the\n  resolver run on the same cores\n", f.date, f.cores, f.cpu, (f.memory+1<<29)>>30, f.kernel)
	fmt.Fprintf(&w, "- disk: %s\n", f.disk)
	fmt.Fprintf(&w, "- before the first round the cores were %.0f %% busy and the disk wrote %.0f KB/s%s\n", f.busy*100, float64(f.noise)/1000, map[bool]string{true: ": **not a quiet machine**"}[f.busy > 0.05])
	fmt.Fprintf(&w, "- %s\n\n", strings.Join(f.versions, "; "))
	b.summary(&w)
	for _, c := range b.opt.cases {
		b.table(&w, c)
	}
	b.syncTable(&w)
	return w.String()
}

// summary is one line a case: mailout against the others.
func (b *bench) summary(w *strings.Builder) {
	mine, ok := b.find("mailout")
	if !ok {
		return
	}
	w.WriteString("| case | mailout, messages/s | × Postfix (goal 10) | × the best peer (goal 8) | of the relay that stores nothing (goal 0.6) | disk octets an octet delivered (goal 1.3), by the whole disk / by mailout |\n| --- | ---: | ---: | ---: | ---: | ---: |\n")
	for _, c := range b.opt.cases {
		m := b.row(c, mine)
		postfix, nothing := 0.0, 0.0
		best, name := 0.0, ""
		for _, p := range b.opt.peers {
			r := b.row(c, p)
			switch {
			case p.name == "nostore":
				nothing = r.rate
			case p.name != "mailout" && !p.onDemand && r.rate > best:
				best, name = r.rate, p.title
			}
			if p.name == "postfix" {
				postfix = r.rate
			}
		}
		fmt.Fprintf(w, "| %s | %.0f | %s | %s | %s | %s / %s |\n", c.id, m.rate, ratio(m.rate, postfix), strings.TrimSpace(ratio(m.rate, best)+" "+name), ratio(m.rate, nothing), orDash(m.disk, "%.2f"), orDash(m.written, "%.2f"))
	}
	w.WriteString("\n")
}

func (b *bench) find(name string) (peer, bool) {
	i := slices.IndexFunc(b.opt.peers, func(p peer) bool { return p.name == name })
	if i < 0 {
		return peer{}, false
	}
	return b.opt.peers[i], true
}

func ratio(a, b float64) string {
	if a == 0 || b == 0 {
		return "—"
	}
	return fmt.Sprintf("%.2f", a/b)
}

func orDash(v float64, format string) string {
	if v == 0 {
		return "—"
	}
	return fmt.Sprintf(format, v)
}

func (b *bench) table(w *strings.Builder, c benchCase) {
	fmt.Fprintf(w, "## (%s) %s\n\n", c.id, c.title)
	w.WriteString("| relay | messages/s | least–most | mailout is | messages a round | CPU s / 1,000 | memory MB | disk oct/oct | by processes | each arrived once |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n")
	mine, _ := b.find("mailout")
	m := b.row(c, mine)
	var notes []string
	for _, p := range b.opt.peers {
		r := b.row(c, p)
		if p.missing() {
			fmt.Fprintf(w, "| %s | not run: could not be had | | | | | | | | |\n", p.title)
			continue
		}
		if r.good == 0 {
			fmt.Fprintf(w, "| %s | failed | | | %d | | | | | no |\n", p.title, r.sent)
		} else {
			fmt.Fprintf(w, "| %s | %.0f | %.0f–%.0f | %s× | %d | %.2f | %.0f | %s | %s | %s |\n", p.title, r.rate, r.least, r.most,
				ratio(m.rate, r.rate), r.sent, r.cpu, r.memory/(1<<20), orDash(r.disk, "%.2f"), orDash(r.written, "%.2f"), rounds(r))
		}
		if r.err != nil {
			notes = append(notes, fmt.Sprintf("%s failed in %d of %d rounds: %v", p.title, r.failed, r.failed+r.good, r.err))
		}
	}
	w.WriteString("\n")
	for _, n := range notes {
		fmt.Fprintf(w, "- %s\n", n)
	}
	if len(notes) > 0 {
		w.WriteString("\n")
	}
}

func rounds(r *row) string {
	if r.failed == 0 {
		return fmt.Sprintf("yes, %d of %d", r.good, r.good)
	}
	return fmt.Sprintf("**%d of %d**", r.good, r.good+r.failed)
}

// syncTable is the other limit.
func (b *bench) syncTable(w *strings.Builder) {
	if len(b.sync) == 0 {
		return
	}
	w.WriteString("## The disk: records of 4 KB a second made durable by shared syncs\n\n| writers | into a file that grows | into one written before |\n| ---: | ---: | ---: |\n")
	for _, n := range []string{"20", "100"} {
		fmt.Fprintf(w, "| %s | %.0f | %.0f |\n", n, median(b.sync["growing "+n]), median(b.sync["written "+n]))
	}
}

// verdict is an error when mailout did not deliver everything exactly once.
func (b *bench) verdict() error {
	for _, c := range b.opt.cases {
		for _, p := range b.opt.peers {
			if r := b.row(c, p); r.failed > 0 && (p.name == "mailout" || p.onDemand) {
				return fmt.Errorf("%s in case %s: %w", p.name, c.id, r.err)
			}
		}
	}
	return nil
}
