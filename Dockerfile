# One image for every service: the command says which. Node runs the TypeScript as it is, so nothing is built here but
# the production dependencies.
FROM node:24-bookworm-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# No production dependency needs its install script.
RUN npm ci --omit=dev --ignore-scripts

FROM node:24-bookworm-slim
ENV NODE_ENV=production
WORKDIR /app
COPY --from=dependencies /app/node_modules node_modules
COPY package.json ./
COPY gen gen
COPY shared shared
COPY services services
# The embedded database's folder, for a service that is given no DATABASE_URL.
RUN mkdir .data && chown node:node .data
USER node
STOPSIGNAL SIGTERM
CMD ["node", "services/gateway/main.ts"]
