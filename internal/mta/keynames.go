package mta

import (
	"encoding/json"
	"strings"
)

// KeyNames are names of the records of DKIM keys ("m2026._domainkey.example.com"),
// separated by spaces; empty: none. In JSON it is a list.
type KeyNames string

// MarshalJSON implements json.Marshaler.
func (n KeyNames) MarshalJSON() ([]byte, error) { return json.Marshal(strings.Fields(string(n))) }

// UnmarshalJSON implements json.Unmarshaler.
func (n *KeyNames) UnmarshalJSON(b []byte) error {
	var list []string
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	*n = KeyNames(strings.Join(list, " "))
	return nil
}
