package config

import (
	"fmt"
	"strconv"
	"strings"
)

// hidden stands for a secret.
const hidden = `"(hidden)"`

// Show gives the effective configuration as TOML. What the file does not set
// carries the comment "# default"; secrets are hidden.
func Show(c *Config) string {
	var b strings.Builder
	for _, t := range schema {
		n := t.elements(c)
		for i := range n {
			if b.Len() > 0 {
				b.WriteByte('\n')
			}
			showTable(&b, c, t, i)
		}
	}
	return b.String()
}

func showTable(b *strings.Builder, c *Config, t *table, i int) {
	if t.name != "" {
		b.WriteString(t.label() + "\n")
	}
	for _, k := range t.keys {
		text := k.toml(c, i)
		switch {
		case k.fromFile(c, i):
			text = k.def
		case k.secret && k.plain(c, i) != "":
			text = hidden
		}
		b.WriteString(k.name + " = " + text)
		if !c.given[k.full(i)] {
			b.WriteString("  # default")
		}
		b.WriteByte('\n')
	}
}

// fromFile reports a secret that its own key does not set: another key names the
// file in which it stands.
func (k *key) fromFile(c *Config, i int) bool {
	return k.secret && k.def == `""` && !c.given[k.full(i)]
}

// Get gives the effective value of a key as a script wants it: a text without
// quotes, a list as TOML. The key is "hostname", "delivery.expire" or, counted
// from 1, "route.1.host"; the name of a table ("delivery", "route",
// "route.1") gives the whole table as TOML. An error wraps ErrUnknownKey.
func Get(c *Config, name string) (string, error) {
	r, err := lookUp(name)
	if err != nil {
		return "", err
	}
	n := r.table.elements(c)
	if r.table.array && r.index >= n {
		return "", missingElement(name, r.table, n)
	}
	if r.key != nil {
		text := r.key.plain(c, max(r.index, 0))
		if r.key.fromFile(c, max(r.index, 0)) {
			text = ""
		} else if r.key.secret && text != "" {
			text = strings.Trim(hidden, `"`)
		}
		return text, nil
	}
	var b strings.Builder
	for i := range n {
		if r.index >= 0 && i != r.index {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		showTable(&b, c, r.table, i)
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

func missingElement(name string, t *table, n int) error {
	return Errors{{Key: name, Message: fmt.Sprintf("there are %d %s", n, t.label()), Err: ErrUnknownKey}}
}

// ref is what a dotted name of the command line means.
type ref struct {
	table *table
	index int  // of an array's element; -1 when none is named
	key   *key // nil: the whole table
}

func (r ref) full() string {
	if r.key != nil {
		return r.key.full(max(r.index, 0))
	}
	return r.table.full(max(r.index, 0))
}

// lookUp reads a dotted name.
func lookUp(name string) (ref, error) {
	parts := strings.Split(name, ".")
	if k := findTable("").key(name); k != nil {
		return ref{findTable(""), -1, k}, nil
	}
	t := findTable(parts[0])
	if t == nil || t.name == "" {
		return ref{}, unknownName(name)
	}
	r, rest := ref{t, -1, nil}, parts[1:]
	if len(rest) > 0 {
		if inner := findTable(t.name + "." + rest[0]); inner != nil {
			r.table, rest = inner, rest[1:]
			t = inner
		}
	}
	if t.array && len(rest) > 0 {
		n, err := strconv.Atoi(rest[0])
		if err != nil || n < 1 {
			return ref{}, Errors{{Key: name, Message: "which of the " + t.label() + "? (they count from 1: write for example " + t.full(0) + "." + t.keys[0].name + ")", Err: ErrUnknownKey}}
		}
		r.index, rest = n-1, rest[1:]
	}
	if len(rest) == 0 {
		return r, nil
	}
	if r.key = t.key(rest[0]); r.key == nil || len(rest) > 1 {
		return ref{}, unknownName(name)
	}
	return r, nil
}

// unknownName says which key was probably meant.
func unknownName(name string) error {
	index := 0
	if parts := strings.Split(name, "."); len(parts) > 2 {
		if n, err := strconv.Atoi(parts[1]); err == nil {
			index = max(n, 1) - 1
		}
	}
	var all, words []string
	full := map[string][]string{} // by the key's own word
	for _, t := range schema {
		for _, k := range t.keys {
			all, words = append(all, k.full(index)), append(words, k.name)
			full[k.name] = append(full[k.name], k.full(index))
		}
	}
	message := `unknown key ("mailout config show" lists them)`
	if same := full[name]; same != nil {
		message = "unknown key (did you mean " + strings.Join(same, " or ") + "?)"
	} else if near := nearest(name, all); near != "" {
		message = `unknown key (did you mean "` + near + `"?)`
	} else if near := nearest(name, words); near != "" {
		message = "unknown key (did you mean " + strings.Join(full[near], " or ") + "?)"
	}
	return Errors{{Key: name, Message: message, Err: ErrUnknownKey}}
}
