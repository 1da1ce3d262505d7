// A certified OpenID provider for the tests, on a port of the loopback address. It prints the port
// when it listens, and ends with its standard input. SIGUSR1 gives it a new signing key.
import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import Provider from 'oidc-provider';

const fresh = (kid) => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { ...privateKey.export({ format: 'jwk' }), kid, use: 'sig', alg: 'ES256' };
};

const roles = { 'clerk-of-data': ['city-stewards'], 'night-watch': ['city-audit'], 'stranger': [] };
const clients = Object.keys(roles).map((client_id) => ({
  client_id,
  client_secret: `secret of ${client_id}`,
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
  id_token_signed_response_alg: 'ES256',
}));

const made = (issuer, kid) => {
  const provider = new Provider(issuer, {
    clients,
    jwks: { keys: [fresh(kid)] },
    extraTokenClaims: (ctx, token) => ({ roles: roles[token.clientId] }),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (ctx, resource) => ({
          scope: 'node',
          audience: resource,
          accessTokenFormat: 'jwt',
          accessTokenTTL: 300,
          jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
  });
  return provider.callback();
};

let answer;
const server = createServer((request, response) => answer(request, response));
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  answer = made(issuer, 'first');
  process.on('SIGUSR1', () => {
    answer = made(issuer, 'second');
    console.log('rotated');
  });
  console.log(server.address().port);
});
process.stdin.on('end', () => process.exit(0)).resume();
