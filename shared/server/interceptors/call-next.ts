/**
 * What comes next, as an async function would call it: with a promise of JavaScript's own, also where it throws at once.
 * Layers that are no async functions cost a call about half as much.
 */
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
