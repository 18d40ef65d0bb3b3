package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// Longer than any machine takes: who waits for ever says nothing.
const patience = time.Minute

// goSpiffe runs COMMAND ADDRESS [ARGUMENT]: each line it prints is one JSON value.
func goSpiffe(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: go-spiffe x509|jwt|follow|call|serve|sds ADDRESS [ARGUMENT]")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	address, rest := workloadapi.WithAddr(args[1]), args[2:]
	switch {
	case args[0] == "x509" && len(rest) == 0:
		return fetchX509(ctx, address)
	case args[0] == "jwt" && len(rest) == 1:
		return fetchJWT(ctx, address, rest[0])
	case args[0] == "follow" && len(rest) == 0:
		return follow(ctx, address)
	case args[0] == "call" && len(rest) == 2:
		return call(ctx, address, rest[0], rest[1])
	case args[0] == "serve" && len(rest) == 1:
		return serve(ctx, address, rest[0])
	case args[0] == "sds" && len(rest) > 0:
		return sds(ctx, args[1], rest)
	}
	return fmt.Errorf("go-spiffe: %q are no arguments", args)
}

func tell(value any) error { return json.NewEncoder(os.Stdout).Encode(value) }

// What go-spiffe reads of the X.509 answers, all of which it verifies.
func fetchX509(ctx context.Context, address workloadapi.ClientOption) error {
	client, err := workloadapi.New(ctx, address)
	if err != nil {
		return err
	}
	defer client.Close()
	answer, err := client.FetchX509Context(ctx)
	if err != nil {
		return err
	}
	bundles, err := client.FetchX509Bundles(ctx)
	if err != nil {
		return err
	}
	var svids []map[string]any
	for _, svid := range answer.SVIDs {
		svids = append(svids, map[string]any{"id": svid.ID.String(), "hint": svid.Hint, "chain": len(svid.Certificates)})
	}
	domains := map[string]int{}
	for _, bundle := range bundles.Bundles() {
		domains[bundle.TrustDomain().Name()] = len(bundle.X509Authorities())
	}
	return tell(map[string]any{"svids": svids, "bundles": domains})
}

// A token of the source's, judged by go-spiffe with the bundles that the agent gave, and by the agent.
func fetchJWT(ctx context.Context, address workloadapi.ClientOption, audience string) error {
	source, err := workloadapi.NewJWTSource(ctx, workloadapi.WithClientOptions(address))
	if err != nil {
		return err
	}
	defer source.Close()
	fetched, err := source.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience})
	if err != nil {
		return err
	}
	here, err := jwtsvid.ParseAndValidate(fetched.Marshal(), source, []string{audience})
	if err != nil {
		return err
	}
	there, err := workloadapi.ValidateJWTSVID(ctx, fetched.Marshal(), audience, address)
	if err != nil {
		return err
	}
	_, refused := workloadapi.ValidateJWTSVID(ctx, fetched.Marshal(), "another", address)
	return tell(map[string]any{"here": here.ID.String(), "there": there.ID.String(), "refused": fmt.Sprint(refused)})
}

// Tells each SVID that the source has, from the first on, until there is no more standard input.
func follow(ctx context.Context, address workloadapi.ClientOption) error {
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(address))
	if err != nil {
		return err
	}
	defer source.Close()
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	for {
		svid, err := source.GetX509SVID()
		if err != nil {
			return err
		}
		serial := svid.Certificates[0].SerialNumber.Text(16)
		if err := tell(map[string]string{"id": svid.ID.String(), "serial": serial}); err != nil {
			return err
		}
		select {
		case <-source.Updated():
		case <-ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func only(id string) (tlsconfig.Authorizer, error) {
	parsed, err := spiffeid.FromString(id)
	if err != nil {
		return nil, err
	}
	return tlsconfig.AuthorizeID(parsed), nil
}

// Sends a line to whoever serves at `to` and is `id`, and tells what comes back.
func call(ctx context.Context, address workloadapi.ClientOption, to, id string) error {
	authorizer, err := only(id)
	if err != nil {
		return err
	}
	mode := spiffetls.MTLSClientWithSourceOptions(authorizer, workloadapi.WithClientOptions(address))
	conn, err := spiffetls.DialWithMode(ctx, "tcp", to, mode)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := fmt.Fprintln(conn, "hello"); err != nil {
		return err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	return tell(map[string]string{"answer": answer})
}

// Tells where it listens, answers one peer that is `id`, and tells who that was or why it was refused.
func serve(ctx context.Context, address workloadapi.ClientOption, id string) error {
	authorizer, err := only(id)
	if err != nil {
		return err
	}
	mode := spiffetls.MTLSServerWithSourceOptions(authorizer, workloadapi.WithClientOptions(address))
	listener, err := spiffetls.ListenWithMode(ctx, "tcp", "127.0.0.1:0", mode)
	if err != nil {
		return err
	}
	defer listener.Close()
	if err := tell(map[string]string{"at": listener.Addr().String()}); err != nil {
		return err
	}
	conn, err := listener.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	peer, err := answer(conn)
	if err != nil {
		return tell(map[string]string{"refused": err.Error()})
	}
	return tell(map[string]string{"peer": peer})
}

func answer(conn net.Conn) (string, error) {
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return "", err
	}
	peer, err := spiffetls.PeerIDFromConn(conn)
	if err != nil {
		return "", err
	}
	_, err = fmt.Fprint(conn, line)
	return peer.String(), err
}
