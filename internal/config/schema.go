package config

import (
	"strconv"
	"strings"
	"time"
)

// key is one setting: everything that is known about it.
type key struct {
	table *table
	name  string
	// def is the default as TOML. Instead, derive fills in one that depends on
	// other settings, and defWords says which; required keys have neither.
	def      string
	derive   func(c *Config, i int)
	defWords string
	required string // what to write when it is missing
	doc      string // one sentence for docs
	live     bool   // a reload applies it
	secret   bool   // show hides it
	sample   string // of a value that is an inline table

	kindName string
	set      func(c *Config, i int, v *value) []complaint
	toml     func(c *Config, i int) string
	plain    func(c *Config, i int) string
	bare     func(text string) string
}

// table is a group of keys: the top of the file (no name), a [table], a table
// of a table ("identity.dns_update"), or the [[tables]] of one name.
type table struct {
	name  string
	array bool
	doc   string
	live  bool // of an array: a reload applies elements that come or go
	keys  []*key
	count func(c *Config) int // of an array's elements
	grow  func(c *Config)     // adds an element
}

// label names the table as the file writes it.
func (t *table) label() string {
	switch {
	case t.name == "":
		return ""
	case t.array:
		return "[[" + t.name + "]]"
	}
	return "[" + t.name + "]"
}

// full names element i of the table: "delivery", "route.1".
func (t *table) full(i int) string {
	if t.array {
		return t.name + "." + strconv.Itoa(i+1)
	}
	return t.name
}

// elements is how often the table stands in c; 1 unless it is an array.
func (t *table) elements(c *Config) int {
	if t.array {
		return t.count(c)
	}
	return 1
}

func (t *table) key(name string) *key {
	for _, k := range t.keys {
		if k.name == name {
			return k
		}
	}
	return nil
}

// label names the key as errors do: "[delivery] expire".
func (k *key) label() string {
	if k.table.name == "" {
		return k.name
	}
	return k.table.label() + " " + k.name
}

// full names the key in element i: "hostname", "delivery.expire", "route.1.host".
func (k *key) full(i int) string {
	if k.table.name == "" {
		return k.name
	}
	return k.table.full(i) + "." + k.name
}

// newKey ties a key to its kind and to its place in a Config.
func newKey[T any](name string, of kind[T], at func(c *Config, i int) *T) *key {
	return &key{
		name:     name,
		live:     true,
		kindName: of.name,
		bare:     of.bare,
		set: func(c *Config, i int, v *value) []complaint {
			x, bad := of.read(v)
			if bad == nil {
				*at(c, i) = x
			}
			return bad
		},
		toml:  func(c *Config, i int) string { return of.write(*at(c, i)) },
		plain: func(c *Config, i int) string { return of.plain(*at(c, i)) },
	}
}

// is gives the key a fixed default (as TOML) and its meaning.
func (k *key) is(def, doc string) *key {
	k.def, k.doc = def, doc
	return k
}

// needs makes the key required; write is what to write.
func (k *key) needs(write, doc string) *key {
	k.required, k.doc = write, doc
	return k
}

// derives gives the key a default that depends on others.
func (k *key) derives(words string, derive func(c *Config, i int), doc string) *key {
	k.defWords, k.derive, k.doc = words, derive, doc
	return k
}

// restart says that a reload does not apply the key.
func (k *key) restart() *key {
	k.live = false
	return k
}

// schema is every table of a configuration file. It is never changed.
var schema = newSchema()

func newSchema() []*table {
	tables := []*table{
		topTable(), dnsTable(), routerTable(), routeTable(), listenTable(), userTable(), httpTable(), sendmailTable(), pickupTable(), sourceTable(), poolTable(), warmupPlanTable(),
		deliveryTable(), streamTable(), tlsTable(), acmeTable(), limitsTable(), journalTable(), suppressTable(), returnsTable(), unsubscribeTable(), tlsReportTable(), eventsTable(), webhookTable(),
		dkimTable(), identityTable(), dnsUpdateTable(), classifyTable(), automationTable(),
		shapeTable(),
	}
	for _, t := range tables {
		for _, k := range t.keys {
			k.table = t
		}
	}
	return tables
}

// tableAt gives the table that a header names, a part each; nil when there is
// none. A quoted part may have a dot in it, which is no table's.
func tableAt(path []part) *table {
	names := make([]string, len(path))
	for i, p := range path {
		if names[i] = p.name; strings.Contains(p.name, ".") || p.name == "" {
			return nil
		}
	}
	return findTable(strings.Join(names, "."))
}

func findTable(name string) *table {
	for _, t := range schema {
		if t.name == name {
			return t
		}
	}
	return nil
}

// Times in the schema; the widest that make sense, to catch slips.
const (
	day     = 24 * time.Hour
	year    = 365 * day
	briefly = 100 * time.Millisecond
)
