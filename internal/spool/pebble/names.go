package pebble

import (
	"strings"

	"mailout/internal/mta"
)

// Short forms of names that a record shares a part of with its other fields.

// placeInSite finds a host among the names of a site; -1 when it is none.
func placeInSite(host, site string) int {
	if host == "" {
		return -1
	}
	for i := 0; ; i++ {
		name, rest, more := strings.Cut(site, ",")
		if name == host {
			return i
		}
		if !more {
			return -1
		}
		site = rest
	}
}

// hostInSite is the reverse of placeInSite.
func hostInSite(site string, place uint64) string {
	for ; place > 0; place-- {
		var more bool
		if _, site, more = strings.Cut(site, ","); !more {
			return ""
		}
	}
	name, _, _ := strings.Cut(site, ",")
	return name
}

// shortKeys leaves out what names of keys have in common with the sender's address:
// mostly all but the selector. No name has an @ in it.
func shortKeys(names mta.KeyNames, sender string) string {
	return strings.ReplaceAll(string(names), keysOf(sender), "@")
}

// longKeys is the reverse of shortKeys.
func longKeys(short, sender string) mta.KeyNames {
	return mta.KeyNames(strings.ReplaceAll(short, "@", keysOf(sender)))
}

// keysOf is what the names of a sender's keys end in.
func keysOf(sender string) string {
	return "._domainkey." + sender[strings.LastIndexByte(sender, '@')+1:]
}
