package config

import (
	"os"

	"mailout/internal/submit"
)

// unalignedKey says what becomes of mail that no DKIM key is for.
func unalignedKey() *key {
	return newKey("unaligned", word(unaligneds), func(c *Config, _ int) *submit.Unaligned { return &c.Identity.Unaligned }).
		is(`"warn"`, "A message whose From domain has no `[[dkim]]`, nor a domain above it, when there is any: `accept` it, `warn` (the log and a metric tell of it), or `refuse` it with 550 5.7.1.")
}

var unaligneds = words[submit.Unaligned]{{"accept", submit.UnalignedAccepted}, {"warn", submit.UnalignedWarned}, {"refuse", submit.UnalignedRefused}}

// LooseKeys are the DKIM keys whose files everybody on this machine may read,
// a sentence each with its place in the file. It is a warning: mail is signed.
func (c *Config) LooseKeys() []*Error {
	var out []*Error
	for i, k := range c.DKIM {
		info, err := os.Stat(k.Key)
		if err == nil && permissionsMean && info.Mode().Perm()&0o004 != 0 {
			out = append(out, &Error{File: c.Path, Line: k.Line, Column: 1, Key: "[[dkim]] key",
				Message: quote(c.DKIM[i].Key) + " can be read by everybody on this machine (chmod 600 " + k.Key + ")"})
		}
	}
	return out
}
