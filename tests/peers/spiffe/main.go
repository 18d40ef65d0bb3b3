// Programs of the SPIFFE project that tests set upon the stand-ins of SPIRE: the commands of SPIRE's own spire-agent and spire-server, without
// `run`, which brings the software of every cloud with it, and go-spiffe.
package main

import (
	"fmt"
	"os"

	"github.com/mitchellh/cli"

	agentapi "github.com/spiffe/spire/cmd/spire-agent/cli/api"
	agenthealth "github.com/spiffe/spire/cmd/spire-agent/cli/healthcheck"
	"github.com/spiffe/spire/cmd/spire-server/cli/agent"
	"github.com/spiffe/spire/cmd/spire-server/cli/bundle"
	"github.com/spiffe/spire/cmd/spire-server/cli/entry"
	"github.com/spiffe/spire/cmd/spire-server/cli/federation"
	"github.com/spiffe/spire/cmd/spire-server/cli/healthcheck"
	"github.com/spiffe/spire/cmd/spire-server/cli/jwt"
	localjwt "github.com/spiffe/spire/cmd/spire-server/cli/localauthority/jwt"
	localx509 "github.com/spiffe/spire/cmd/spire-server/cli/localauthority/x509"
	"github.com/spiffe/spire/cmd/spire-server/cli/token"
	"github.com/spiffe/spire/cmd/spire-server/cli/x509"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: spiffe-peers spire-agent|spire-server|go-spiffe COMMAND")
		os.Exit(2)
	}
	name, args := os.Args[1], os.Args[2:]
	switch name {
	case "spire-agent":
		os.Exit(run(name, args, agentCommands))
	case "spire-server":
		os.Exit(run(name, args, serverCommands))
	case "go-spiffe":
		if err := goSpiffe(args); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		fmt.Fprintf(os.Stderr, "there is no program %q here\n", name)
		os.Exit(2)
	}
}

func run(name string, args []string, commands map[string]func() cli.Command) int {
	program := cli.NewCLI(name, "")
	program.Args = args
	program.Commands = map[string]cli.CommandFactory{}
	for path, command := range commands {
		program.Commands[path] = func() (cli.Command, error) { return command(), nil }
	}
	status, err := program.Run()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}

var agentCommands = map[string]func() cli.Command{
	"api fetch":        agentapi.NewFetchX509Command,
	"api fetch x509":   agentapi.NewFetchX509Command,
	"api fetch jwt":    agentapi.NewFetchJWTCommand,
	"api validate jwt": agentapi.NewValidateJWTCommand,
	"api watch":        func() cli.Command { return &agentapi.WatchCLI{} },
	"healthcheck":      agenthealth.NewHealthCheckCommand,
}

var serverCommands = map[string]func() cli.Command{
	"agent ban":                    agent.NewBanCommand,
	"agent count":                  agent.NewCountCommand,
	"agent evict":                  agent.NewEvictCommand,
	"agent list":                   agent.NewListCommand,
	"agent show":                   agent.NewShowCommand,
	"bundle count":                 bundle.NewCountCommand,
	"bundle delete":                bundle.NewDeleteCommand,
	"bundle list":                  bundle.NewListCommand,
	"bundle set":                   bundle.NewSetCommand,
	"bundle show":                  bundle.NewShowCommand,
	"entry count":                  entry.NewCountCommand,
	"entry create":                 entry.NewCreateCommand,
	"entry delete":                 entry.NewDeleteCommand,
	"entry show":                   entry.NewShowCommand,
	"entry update":                 entry.NewUpdateCommand,
	"federation create":            federation.NewCreateCommand,
	"federation delete":            federation.NewDeleteCommand,
	"federation list":              federation.NewListCommand,
	"federation refresh":           federation.NewRefreshCommand,
	"federation show":              federation.NewShowCommand,
	"federation update":            federation.NewUpdateCommand,
	"healthcheck":                  healthcheck.NewHealthCheckCommand,
	"jwt mint":                     jwt.NewMintCommand,
	"localauthority jwt activate":  localjwt.NewJWTActivateCommand,
	"localauthority jwt prepare":   localjwt.NewJWTPrepareCommand,
	"localauthority jwt revoke":    localjwt.NewJWTRevokeCommand,
	"localauthority jwt show":      localjwt.NewJWTShowCommand,
	"localauthority jwt taint":     localjwt.NewJWTTaintCommand,
	"localauthority x509 activate": localx509.NewX509ActivateCommand,
	"localauthority x509 prepare":  localx509.NewX509PrepareCommand,
	"localauthority x509 revoke":   localx509.NewX509RevokeCommand,
	"localauthority x509 show":     localx509.NewX509ShowCommand,
	"localauthority x509 taint":    localx509.NewX509TaintCommand,
	"token generate":               token.NewGenerateCommand,
	"x509 mint":                    x509.NewMintCommand,
}
