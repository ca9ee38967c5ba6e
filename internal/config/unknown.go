package config

import (
	"strconv"
	"strings"
)

func itoa(n int) string { return strconv.Itoa(n) }

// unknownTable says what a header should probably have been.
func unknownTable(path []part) string {
	name := path[0].name
	if len(path) > 1 {
		if t := tableAt(path[:1]); t != nil {
			if k := t.key(path[1].name); k != nil && k.sample != "" {
				return noKeys(k) + " below " + t.label()
			}
			if inner := innerTables(t); inner != nil {
				return "unknown table (in " + t.label() + " there is " + strings.Join(inner, ", ") + ")"
			}
			return "unknown table (" + t.label() + " has no tables of its own)"
		}
	}
	if findTable("").key(name) != nil {
		return "is not a table but a key (write " + name + " = … at the top of the file)"
	}
	var labels, names []string
	for _, t := range schema {
		if t.name != "" {
			names, labels = append(names, t.name), append(labels, t.label())
		}
	}
	if near := nearest(name, names); near != "" {
		return "unknown table (did you mean " + findTable(near).label() + "?)"
	}
	return "unknown table (there are " + strings.Join(labels, ", ") + ")"
}

// innerTables gives the labels of a table's own tables.
func innerTables(of *table) []string {
	var labels []string
	for _, t := range schema {
		if strings.HasPrefix(t.name, of.name+".") {
			labels = append(labels, t.label())
		}
	}
	return labels
}

// unknownKey says what a key of a table should probably have been: one of the
// same table, or the same word in another table, where a forgotten or extra
// header has put it.
func unknownKey(in *table, path []part) string {
	name := path[len(path)-1].name
	near := nearest(path[0].name, keyNames(in))
	if near != "" && len(path) == 1 && distance(path[0].name, near) <= 1 {
		return `unknown key (did you mean "` + near + `"?)`
	}
	if len(path) == 1 {
		if other := homeOf(name, in); other != "" {
			return "unknown key (" + other + ")"
		}
	}
	if near != "" && len(path) == 1 {
		return `unknown key (did you mean "` + near + `"?)`
	}
	if in.name == "" {
		return unknownAtTop(path)
	}
	return "unknown key (" + in.label() + " has " + strings.Join(keyNames(in), ", ") + ")"
}

// unknownAtTop is for a key before the first header; with dots it may be meant
// for a table, and a key of the top is written without.
func unknownAtTop(path []part) string {
	if len(path) > 1 {
		var names []string
		for _, t := range schema {
			if t.name != "" && !t.array {
				names = append(names, t.name)
			}
		}
		if near := nearest(path[0].name, names); near != "" {
			return `unknown table (did you mean "` + near + "." + dotted(path[1:]) + `"?)`
		}
	}
	return "unknown key (at the top of the file stand " + strings.Join(keyNames(findTable("")), ", ") + "; others belong in a [table])"
}

func keyNames(t *table) []string {
	var names []string
	for _, k := range t.keys {
		names = append(names, k.name)
	}
	return names
}

// homeOf says in which other tables a key of this name belongs; empty when in
// none.
func homeOf(name string, not *table) string {
	var labels []string
	for _, t := range schema {
		k := t.key(name)
		switch {
		case t == not || k == nil:
		case t.name == "":
			return name + " stands at the top of the file, before the first [table]"
		default:
			labels = append(labels, t.label())
		}
	}
	if labels == nil {
		return ""
	}
	return "it belongs in " + strings.Join(labels, " or ")
}
