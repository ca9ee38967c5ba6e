package config

import (
	"net/netip"
	"slices"
)

// Diff names the keys whose effective values differ, as new's file knows them
// ("delivery.expire", "route.2.host"; "route" when the number of routes
// changed, "listen" when the addresses did): those that a reload applies, and
// those that need a restart. A key that neither file sets and that only
// follows another is left out. Elements of [[listen]] are compared by address,
// so their order does not matter.
func Diff(old, new *Config) (applied, needsRestart []string) {
	note := func(name string, live bool) {
		if live {
			applied = append(applied, name)
		} else {
			needsRestart = append(needsRestart, name)
		}
	}
	for _, t := range schema {
		pairs := t.pairs(old, new)
		if len(pairs) != t.elements(old) || len(pairs) != t.elements(new) {
			note(t.name, t.live)
		}
		for _, p := range pairs {
			for _, k := range t.keys {
				if k.differs(old, p.old, new, p.new) {
					note(k.full(p.new), k.live)
				}
			}
		}
	}
	return applied, needsRestart
}

// pair numbers one element in two configurations.
type pair struct{ old, new int }

// pairs finds the elements of a table that can be compared: listeners of the
// same address, and the others by number if there are as many.
func (t *table) pairs(old, new *Config) []pair {
	var out []pair
	n := t.elements(new)
	if t.name != "listen" {
		for i := range n {
			if t.elements(old) == n {
				out = append(out, pair{i, i})
			}
		}
		return out
	}
	for i, l := range new.Listen {
		j := findListener(old.Listen, l.Address)
		if j >= 0 && !slices.ContainsFunc(out, func(p pair) bool { return p.old == j }) {
			out = append(out, pair{j, i})
		}
	}
	return out
}

func (k *key) differs(old *Config, i int, new *Config, j int) bool {
	if k.derive != nil && old.follows(k.full(i)) && new.follows(k.full(j)) {
		return false
	}
	return k.toml(old, i) != k.toml(new, j)
}

// follows reports whether a derived key is not set in the file.
func (c *Config) follows(full string) bool { return c.given != nil && !c.given[full] }

func findListener(in []Listener, address netip.AddrPort) int {
	return slices.IndexFunc(in, func(l Listener) bool { return l.Address == address })
}

// Merge is what holds after a reload: new, with old's values of everything
// that needs a restart. An old listener keeps its address and takes over the
// other settings of the new one on the same address, but for what it serves: one
// that takes mail to send must not take it from everybody.
func Merge(old, new *Config) *Config {
	merged := *new
	scratch := *old // setters want a Config of their own
	for _, t := range schema {
		if t.array {
			continue
		}
		for _, k := range t.keys {
			if !k.live {
				k.set(&merged, 0, literal(k.toml(&scratch, 0)))
			}
		}
	}
	merged.Listen = slices.Clone(old.Listen)
	for i, l := range merged.Listen {
		if j := findListener(new.Listen, l.Address); j >= 0 {
			merged.Listen[i] = new.Listen[j]
			merged.Listen[i].Returns = l.Returns
		}
	}
	return &merged
}
