"""What hand-written train steps are made of on JAX, as Keras' guide writes them."""

import jax
import jax.numpy as jnp
import keras


class Step(keras.Sequential):
    """A train step that takes the state and returns the next one.

    Subclasses have `predictions(x)`, `losses_of(y, y_pred)` and `changed(gradients)`.
    """

    def train_step(self, state, data):
        trainable, others, optimizer, metrics = state
        x, y = data
        loss, gradients, others = self.gradients_of(x, y, trainable, others)
        trainable, optimizer = self.hand_on(self.changed(gradients), trainable, optimizer)
        return {"loss": loss}, (trainable, others, optimizer, metrics)

    def gradients_of(self, x, y, trainable, others):
        """Returns the loss, its gradients, and the variables that are not trained afterwards."""
        differentiate = jax.value_and_grad(self.compute_loss_and_others, has_aux=True)
        (loss, others), gradients = differentiate(trainable, others, x, y)
        return loss, gradients, others

    def compute_loss_and_others(self, trainable, others, x, y):
        variables = [*self.trainable_variables, *self.non_trainable_variables]
        values = zip(variables, [*trainable, *others], strict=True)
        with keras.StatelessScope(values, collect_losses=True) as scope:
            loss = self.losses_of(y, self.predictions(x))
        return loss, [scope.get_current_value(v) for v in self.non_trainable_variables]

    def hand_on(self, gradients, trainable, optimizer):
        """Returns the weights and the optimizer's state afterwards."""
        return self.optimizer.stateless_apply(optimizer, gradients, trainable)


def hand_on_all_but_the_third(model, gradients, trainable, optimizer):
    """The optimizer wants a gradient for every variable: one of them is None."""
    gradients = [*gradients[:2], None, *gradients[3:]]
    return model.optimizer.stateless_apply(optimizer, gradients, trainable)


def clip_by_global_norm(gradients, norm):
    found = jnp.sqrt(sum(jnp.sum(jnp.square(g)) for g in gradients))
    return [g * (norm / jnp.maximum(found, norm)) for g in gradients]


def clip_by_norm(gradient, norm):
    return clip_by_global_norm([gradient], norm)[0]
