// Package rest holds what every part of the HTTP API shares: how a problem is
// told (RFC 9457), which scope an operation asks for, how operations are
// registered so that they stand in the OpenAPI document, and what one request
// may cost.
//
// It opens no port and knows no route: admin serves, and each area registers
// its own operations with Operation and huma.Register, or with Raw. It must not
// decide anything about mail. It is called by admin and by the parts with an
// HTTP door; it starts no goroutine.
package rest
