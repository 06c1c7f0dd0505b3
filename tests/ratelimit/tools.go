//go:build tools

// Package tools names what is built beside the tests' own server, so that go.mod pins it.
package tools

import _ "github.com/envoyproxy/ratelimit/src/service_cmd"
