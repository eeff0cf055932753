/** What comes next: always a promise of JavaScript's own, also when it throws at once, as if an async function had called it. */
export function callNext<Request, Response>(
  next: (request: Request) => Promise<Response>,
  request: Request,
): Promise<Response> {
  try {
    return Promise.resolve(next(request));
  } catch (error) {
    return Promise.reject(error);
  }
}
