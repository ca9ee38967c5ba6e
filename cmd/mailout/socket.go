package main

import (
	"context"
	"net"
	"net/http"
	"time"
)

// socketHost stands in URLs for the daemon behind the socket: the name is
// never looked up.
const socketHost = "http://mailout"

// socketClient gives an HTTP client whose every request goes to the Unix
// socket at path, whatever host its URL names. It has no time limit of its
// own for an answer: a submission may be long, so set one on the request.
func socketClient(path string) *http.Client {
	const dialLimit = 10 * time.Second // a daemon whose backlog is full
	dialer := net.Dialer{Timeout: dialLimit}
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		},
		DisableCompression: true,
		DisableKeepAlives:  true, // a command makes one request and ends
	}}
}
