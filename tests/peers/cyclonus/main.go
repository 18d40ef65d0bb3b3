// cyclonus, from its own Go module: the community's tests of NetworkPolicy, which `make conformance` points at a cluster.
package main

import "github.com/mattfenwick/cyclonus/pkg/cli"

func main() { cli.RunRootCommand() }
